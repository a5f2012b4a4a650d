//! Opening a CUDA device where there is none: a typed error, no panic.
//!
//! The C compiler builds libraries that stand for the driver. They are found through the loader's
//! path, which is read when a process starts, so each case runs in a process of its own. Libraries
//! that may be a driver are called `libcuda.so`, which the library tries last. A machine that has a
//! driver is not tested where one of the cases has none.

#![cfg(all(feature = "cuda-core", target_os = "linux"))]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tidelock::{
    Buffer, Error,
    cuda::{CudaBackend, Device, OpenError, REQUIRED_SYMBOLS},
    driver::Code,
    location::Pinned,
};

/// Set in the subprocess.
const CHILD: &str = "TIDELOCK_OPEN_DEVICE";

/// The message of opening device 0 in a new process whose loader path starts with `folders`.
fn opened_with(folders: &[&Path]) -> String {
    let path = env::join_paths(folders).unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "opens_in_a_process_of_its_own", "--nocapture", "--test-threads=1"]);
    let output = child.env(CHILD, "1").env("LD_LIBRARY_PATH", path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let answer = text.lines().find_map(|line| line.split_once("answer: ")).unwrap_or_else(|| panic!("{text}"));
    answer.1.to_owned()
}

/// The part of `opened_with` that the new process runs.
#[test]
fn opens_in_a_process_of_its_own() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let first = Device::open(0);
    // A second attempt, also on another thread, returns the same error.
    assert_eq!(first, std::thread::spawn(|| Device::open(0)).join().unwrap());
    if let Err(error) = &first {
        // Formatting makes no driver call, and the conversion to the library's error keeps the
        // code.
        assert!(!error.to_string().is_empty());
        assert!(matches!(Error::from(error.clone()), Error::Driver(_)));
        // Without a device there is no pinned memory: the request returns an error and does not
        // panic.
        let refused = Buffer::<u32, Pinned<CudaBackend>>::zeros(4).unwrap_err();
        assert!(matches!(refused, Error::Driver(error) if error.code == Code::NOT_INITIALIZED), "{refused}");
        assert!(Buffer::<u32, Pinned<CudaBackend>>::zeros(0).unwrap().is_empty());
    }
    println!("\nanswer: {first:?}");
}

/// A library in a folder of its own, with one C function for each of `symbols`, all with the body
/// `body`.
struct Library(PathBuf);

impl Library {
    fn new(name: &str, symbols: &[&str], body: &str) -> Library {
        Library::called("libcuda.so", name, symbols, body)
    }

    /// As `new`, with the name of the file.
    fn called(file: &str, name: &str, symbols: &[&str], body: &str) -> Library {
        let folder = env::temp_dir().join(format!("tidelock-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let source: String = symbols.iter().map(|name| format!("int {name}(void *p) {{ {body} }}\n")).collect();
        fs::write(folder.join("cuda.c"), source).unwrap();
        let (to, from) = (folder.join(file), folder.join("cuda.c"));
        let built = Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).args([to, from]).status().unwrap();
        assert!(built.success());
        Library(folder)
    }

    fn opened(&self) -> String {
        opened_with(&[&self.0])
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Asks the loader about the driver of this machine: whether it can be loaded, and how many devices
/// it sees.
fn devices_of_this_machine() -> Option<i32> {
    static ANSWER: OnceLock<Option<i32>> = OnceLock::new();
    *ANSWER.get_or_init(ask_the_loader)
}

fn ask_the_loader() -> Option<i32> {
    const SOURCE: &str = r#"
        #include <dlfcn.h>
        #include <stdio.h>
        int main(void) {
            void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
            if (!cuda) return 1;
            int (*init)(unsigned) = (int (*)(unsigned))dlsym(cuda, "cuInit");
            int (*count)(int *) = (int (*)(int *))dlsym(cuda, "cuDeviceGetCount");
            int n = 0;
            if (init(0) == 0) count(&n);
            printf("%d", n);
            return 0;
        }"#;
    let folder = env::temp_dir().join(format!("tidelock-probe-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("probe.c"), SOURCE).unwrap();
    let program = folder.join("probe");
    let built = Command::new("cc").arg(folder.join("probe.c")).arg("-o").arg(&program).arg("-ldl").status().unwrap();
    assert!(built.success());
    let output = Command::new(program).env("LD_LIBRARY_PATH", "").output().unwrap();
    let _ = fs::remove_dir_all(folder);
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().parse().unwrap())
}

#[test]
fn this_machine_is_what_the_loader_says() {
    let answer = opened_with(&[]);
    match devices_of_this_machine() {
        None => assert_eq!(answer, "Err(NoDriver)"),
        Some(0) => assert!(answer.starts_with("Err("), "{answer}"),
        Some(_) => assert!(answer.starts_with("Ok(Device"), "{answer}"),
    }
}

/// The loader's message for a file that is given by its path.
fn words_of_the_loader(file: &Path) -> String {
    const SOURCE: &str = r#"
        #include <dlfcn.h>
        #include <stdio.h>
        int main(int count, char **arguments) {
            if (!dlopen(arguments[1], RTLD_LAZY)) printf("%s", dlerror());
            return 0;
        }"#;
    let program = file.with_extension("words");
    fs::write(program.with_extension("c"), SOURCE).unwrap();
    let source = program.with_extension("c");
    assert!(Command::new("cc").arg(source).arg("-o").arg(&program).arg("-ldl").status().unwrap().success());
    String::from_utf8(Command::new(program).arg(file).output().unwrap().stdout).unwrap()
}

#[test]
fn the_toolkits_stub_is_recognised() {
    // Whatever the file is called.
    for file in ["libcuda.so.1", "libcuda.so"] {
        let stub = Library::called(file, &format!("stub-{file}"), REQUIRED_SYMBOLS, "return 34;");
        match devices_of_this_machine() {
            None => assert_eq!(stub.opened(), "Err(Stub)"),
            Some(_) => assert_ne!(stub.opened(), "Err(Stub)"),
        }
    }
}

#[test]
fn a_stub_is_passed_over() {
    // Before the driver in the loader's path, under either name.
    for (stub, driver) in
        [("libcuda.so", "libcuda.so.1"), ("libcuda.so.1", "libcuda.so.1"), ("libcuda.so.1", "libcuda.so")]
    {
        let stub_first = Library::called(stub, &format!("first-{stub}-{driver}"), REQUIRED_SYMBOLS, "return 34;");
        let driver = Library::called(driver, &format!("second-{stub}-{driver}"), REQUIRED_SYMBOLS, "return 803;");
        let answer = opened_with(&[&stub_first.0, &driver.0]);
        // A driver of this machine may be found before the second folder is searched.
        match devices_of_this_machine() {
            None => assert!(answer.contains("cuInit") && answer.contains("803"), "{stub}: {answer}"),
            Some(_) => assert_ne!(answer, "Err(Stub)"),
        }
    }
}

#[test]
fn the_drivers_own_name_comes_first() {
    let development = Library::called("libcuda.so", "development", REQUIRED_SYMBOLS, "return 803;");
    let own = Library::called("libcuda.so.1", "own", REQUIRED_SYMBOLS, "return 802;");
    let answer = opened_with(&[&development.0, &own.0]);
    assert!(answer.contains("802"), "{answer}");
}

#[test]
fn the_loaders_words_are_kept() {
    let library = Library::called("libcuda.so.1", "words", REQUIRED_SYMBOLS, "return 0;");
    let file = library.0.join("libcuda.so.1");
    let whole = fs::read(&file).unwrap();
    let says = |bytes: &[u8], words: &str| {
        fs::write(&file, bytes).unwrap();
        match devices_of_this_machine() {
            None => {
                let answer = library.opened();
                assert!(answer.starts_with("Err(Unloadable { reason: "), "{answer}");
                assert!(answer.contains(words), "{answer} does not say {words:?}");
            }
            // The library skips it.
            Some(_) => assert!(!library.opened().contains("Unloadable")),
        }
    };
    let patched = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    // Files cut off at the header and in the middle, where the loader reads beyond the end; files
    // for a smaller and for another machine, for which the loader reports that there is no file;
    // and a file that is no library.
    says(&whole[..40], "file too short");
    says(&whole[..3000], "file too short: it has 3000 bytes");
    says(&patched(4, 1), "wrong ELF class: ELFCLASS32");
    says(&patched(18, 40), "it is for another machine (ELF machine 40");
    says(b"no library at all, which has more bytes than the header of one has: sixty-four", "invalid ELF header");
}

#[test]
fn a_missing_dependency_is_named() {
    let library = Library::called("libneeded.so", "needed", &["needed"], "return 0;");
    let (needed, driver) = (library.0.join("libneeded.so"), library.0.join("libcuda.so.1"));
    let source = library.0.join("driver.c");
    fs::write(&source, "int needed(void *); int cuInit(int n) { return needed(0); }").unwrap();
    let mut build = Command::new("cc");
    build.args(["-shared", "-fPIC", "-o"]).arg(&driver).arg(&source).arg("-L").arg(&library.0).arg("-lneeded");
    assert!(build.status().unwrap().success());
    fs::remove_file(needed).unwrap();
    if devices_of_this_machine().is_none() {
        let (answer, words) = (library.opened(), words_of_the_loader(&driver));
        assert!(words.contains("libneeded.so"), "{words}");
        assert_eq!(answer, format!("Err(Unloadable {{ reason: {words:?} }})"));
    }
}

#[test]
fn a_missing_function_is_named() {
    // One of the middle, one of the end, and all but one.
    for missing in ["cuMemAllocFromPoolAsync", "cuLaunchKernel"] {
        let symbols: Vec<_> = REQUIRED_SYMBOLS.iter().copied().filter(|&name| name != missing).collect();
        assert_eq!(symbols.len() + 1, REQUIRED_SYMBOLS.len());
        let answer = Library::new(missing, &symbols, "return 0;").opened();
        assert_eq!(answer, format!("Err(MissingSymbol {{ name: {missing:?} }})"));
    }
    let answer = Library::new("empty", &["cuInit"], "return 0;").opened();
    assert_eq!(answer, "Err(MissingSymbol { name: \"cuDriverGetVersion\" })");
}

#[test]
fn a_driver_that_refuses_says_with_which_code() {
    let answer = Library::new("mismatch", REQUIRED_SYMBOLS, "return 803;").opened();
    let code = Code(803);
    assert_eq!(answer, format!("Err(Driver(DriverError {{ call: \"cuInit\", code: {code:?} }}))"));
    let absent = OpenError::NoSuchDevice { ordinal: 0, count: 0 };
    assert_eq!(Library::new("none", REQUIRED_SYMBOLS, "return 100;").opened(), format!("Err({absent:?})"));
}

#[test]
fn an_old_driver_is_refused() {
    // Every call succeeds and writes 0, or 11040 for the version.
    let zero = "if (p) *(int *)p = 11040; return 0;";
    let others: Vec<_> = REQUIRED_SYMBOLS.iter().copied().filter(|&name| name != "cuInit").collect();
    let library = Library::new("old", &others, zero);
    let source = fs::read_to_string(library.0.join("cuda.c")).unwrap() + "int cuInit(int flags) { return flags; }\n";
    fs::write(library.0.join("cuda.c"), source).unwrap();
    let (to, from) = (library.0.join("libcuda.so"), library.0.join("cuda.c"));
    assert!(Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).args([to, from]).status().unwrap().success());
    assert_eq!(library.opened(), "Err(TooOld { found: 11040 })");
}
