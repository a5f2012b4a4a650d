#!/usr/bin/env python3
"""Checks that the library's layers only look down, and names the circles that are left inside of each.

Reads the paths in the source, comments and tests aside; the layers are a table of ARCHITECTURE.md. An arrow from a file to a file of a higher layer fails, and
so does a circle of more files than the limits below. `--list` prints the arrows between layers and the circles.
"""
import os, re, sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SRC = os.path.join(ROOT, "src")


def layers():
    """The table of ARCHITECTURE.md, from below to above: the name of each layer, and the files that are in it."""
    section = open(os.path.join(ROOT, "ARCHITECTURE.md")).read().split("## Layers\n")[1].split("\n## ")[0]
    rows = [row.split("|")[1:3] for row in section.split("\n") if row.startswith("| ") and "`" in row]
    return [(name.strip(), re.findall(r"`([^`]+)`", files)) for name, files in rows]


LAYERS = layers()
# The most files of one circle, by the folder that they lie in.
LIMITS = {"": 4, "device/cuda/copy/": 3}


def sources():
    for folder, _, names in os.walk(SRC):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), SRC)
            if path.endswith(".rs") and path != "lib.rs" and "/tests" not in path:
                yield path


def layer(path):
    for number, (_, places) in enumerate(LAYERS):
        if any(path == place or place.endswith("/") and path.startswith(place) for place in places):
            return number
    sys.exit(f"{path}: in no layer of ARCHITECTURE.md")


def parse(text):
    """A use tree as a list of paths."""
    paths, depth, start = [], 0, 0
    for i, c in enumerate(text + ","):
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            item, start = text[start:i].strip(), i + 1
            head, brace, _ = item.partition("{")
            if brace:
                paths += [head.split("::")[:-1] + rest for rest in parse(item[len(head) + 1 : -1])]
            elif item:
                paths.append([part.split(" as ")[0].strip() for part in item.split("::")])
    return paths


def module(path):
    parts = path[:-3].split("/")
    return parts[:-1] if parts[-1] == "mod" else parts


def code(path):
    text = open(os.path.join(SRC, path)).read()
    text = re.sub(r"//[^\n]*", "", text)
    # What is compiled for tests or for comparing declarations is no part of the library.
    return re.split(r"#\[cfg\((?:any\()?test\b", text)[0]


def main():
    files = sorted(sources())
    modules = {tuple(module(path)): path for path in files}
    exports = {}
    uses = {}
    for path in files:
        uses[path] = []
        for is_public, tree in re.findall(r"^\s*(pub(?:\([^)]*\))? )?use ([^;]+);", code(path), re.M):
            for parts in parse(re.sub(r"\s+", " ", tree)):
                here = module(path)
                if parts[0] == "crate":
                    full = parts[1:]
                elif parts[0] == "self":
                    full = here + parts[1:]
                elif parts[0] == "super":
                    full = here
                    while parts and parts[0] == "super":
                        full, parts = full[:-1], parts[1:]
                    full = full + parts
                else:
                    continue
                if is_public and full:
                    exports[(path, full[-1])] = full
                else:
                    uses[path].append(full)
        # Paths that are written out where they are used.
        body = re.sub(r"\buse [^;]+;", "", code(path))
        uses[path] += [full.strip(":").split("::") for full in re.findall(r"\bcrate((?:::\w+)+)", body)]

    def file_of(full):
        """The file that declares a path, through the re-exports of module files."""
        for _ in range(8):
            for length in range(len(full), -1, -1):
                found = modules.get(tuple(full[:length]))
                if found:
                    name = full[length] if length < len(full) else None
                    if name and (found, name) in exports and exports[(found, name)] != full:
                        full = exports[(found, name)] + full[length + 1 :]
                        break
                    return found
            else:
                return None
        return None

    arrows = {path: {file_of(full) for full in uses[path]} - {None, path} for path in files}
    wrong = [
        f"{path} ({LAYERS[layer(path)][0]}) uses {to} ({LAYERS[layer(to)][0]})"
        for path in files
        for to in sorted(arrows[path])
        if layer(to) > layer(path)
    ]
    # The two backends do not know each other.
    wrong += [
        f"{path} uses {to}"
        for path in files
        for to in sorted(arrows[path])
        if {p.split("/")[1] for p in (path, to) if p.count("/") > 1 and p.startswith("device/")} == {"sim", "cuda"}
    ]
    circles = components(arrows)
    for circle in circles:
        limit = max((len(folder), most) for folder, most in LIMITS.items() if all(f.startswith(folder) for f in circle))[1]
        if len(circle) > limit:
            wrong.append(f"a circle of {len(circle)} files, at most {limit} are allowed: {', '.join(circle)}")
    if "--list" in sys.argv:
        for circle in circles:
            print("circle:", ", ".join(circle))
    if wrong:
        sys.exit("\n".join(wrong))


def components(arrows):
    """The strongly connected components of more than one file."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for to in arrows[node]:
            if to not in index:
                visit(to)
                low[node] = min(low[node], low[to])
            elif to in stack:
                low[node] = min(low[node], index[to])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    sys.setrecursionlimit(10000)
    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return sorted(found)


main()
