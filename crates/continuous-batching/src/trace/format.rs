//! The formats of traces, and the rows of each.

use csv_core::ReadRecordResult;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::moment::Clock;
use super::{Fault, MAX_TOKENS, Problem, Row, excerpt};

/// The formats, for messages.
pub(super) const KNOWN: &str = "Azure LLM inference (CSV with the columns `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`), \
    BurstGPT (CSV with `Timestamp`, `Request tokens`, `Response tokens`) and \
    Mooncake (JSON lines with `timestamp`, `input_length`, `output_length`)";

/// How a family of traces names the time and the two counts, and the unit of its time.
#[derive(Clone, Copy, Debug)]
struct Names {
    columns: [&'static str; 3],
    clock: Clock,
}

const AZURE: Names = Names { columns: ["TIMESTAMP", "ContextTokens", "GeneratedTokens"], clock: Clock::Date };
const BURST_GPT: Names = Names { columns: ["Timestamp", "Request tokens", "Response tokens"], clock: Clock::Seconds };
const MOONCAKE: Names = Names { columns: ["timestamp", "input_length", "output_length"], clock: Clock::Milliseconds };

/// How the rows of a trace are read.
pub(super) enum Format {
    /// Comma-separated values.
    Csv(Box<Csv>),
    /// A JSON object on each line.
    Json,
}

/// Comma-separated values below a header.
pub(super) struct Csv {
    names: Names,
    /// Where the three columns are among `count`.
    places: [usize; 3],
    count: usize,
    fields: Fields,
}

impl Format {
    /// The format of a trace that begins with `line`.
    pub(super) fn of(line: &str) -> Option<Format> {
        if is_object(line) {
            // An object of another kind has none of the keys.
            let is_other = serde_json::from_str::<Object<'_>>(line).is_ok_and(|object| object.is_empty());
            return (!is_other).then_some(Format::Json);
        }
        let mut fields = Fields::new();
        let header = fields.of(line).ok()?;
        let count = header.len();
        let (names, places) = [AZURE, BURST_GPT].into_iter().find_map(|names| {
            let [time, prompt, generate] = names.columns.map(|name| only(&header, name));
            Some((names, [time?, prompt?, generate?]))
        })?;
        Some(Format::Csv(Box::new(Csv { names, places, count, fields })))
    }

    /// Whether the first line is no request.
    pub(super) const fn has_header(&self) -> bool {
        matches!(self, Format::Csv(_))
    }

    /// The request of a line.
    pub(super) fn row(&mut self, line: &str) -> Result<Row, Problem> {
        match self {
            Format::Json => object(line),
            Format::Csv(csv) => csv.row(line),
        }
    }
}

impl Csv {
    fn row(&mut self, line: &str) -> Result<Row, Problem> {
        let fields = self.fields.of(line)?;
        match self.places.map(|place| fields.get(place).copied()) {
            [Some(time), Some(prompt), Some(generate)] if fields.len() == self.count => {
                self.names.row([time, prompt, generate])
            }
            _ => Err(Problem::Columns { expected: self.count, found: fields.len(), line: excerpt(line) }),
        }
    }
}

impl Names {
    /// The request of three values.
    fn row(self, [time, prompt, generate]: [&str; 3]) -> Result<Row, Problem> {
        let [column, prompt_column, generate_column] = self.columns;
        let expected = self.clock.expected();
        let malformed = || Problem::Timestamp { column, value: excerpt(time), expected };
        Ok(Row {
            time: self.clock.read(time).ok_or_else(malformed)?,
            prompt: tokens(prompt_column, prompt)?,
            generate: tokens(generate_column, generate)?,
        })
    }
}

fn tokens(column: &'static str, value: &str) -> Result<u32, Problem> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fault = if is_digits(value) {
        // Only a number above `u32::MAX` fails here, because every character is a digit.
        match value.parse() {
            Ok(0) => Fault::Zero,
            Ok(count) if count <= MAX_TOKENS => return Ok(count),
            _ => Fault::TooLarge,
        }
    } else if value.strip_prefix('-').is_some_and(is_digits) {
        Fault::Negative
    } else {
        Fault::NotANumber
    };
    Err(Problem::Tokens { column, value: excerpt(value), fault })
}

/// The index of the only field called `name`.
fn only(fields: &[&str], name: &str) -> Option<usize> {
    let mut places = fields.iter().enumerate().filter(|(_, field)| **field == name).map(|(place, _)| place);
    places.next().filter(|_| places.next().is_none())
}

/// Splits lines into fields by RFC 4180, except that a quoted field ends on its line.
struct Fields {
    reader: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Fields {
    fn new() -> Self {
        Fields { reader: csv_core::Reader::new(), text: Vec::new(), ends: Vec::new() }
    }

    /// The fields of a line that is not empty.
    fn of(&mut self, line: &str) -> Result<Vec<&str>, Problem> {
        let open = || Problem::Quote { line: excerpt(line) };
        if !line.matches('"').count().is_multiple_of(2) {
            return Err(open());
        }
        // Room for the text without its quotes, and for as many fields as a line may have.
        self.text.resize(line.len() + 1, 0);
        self.ends.resize(line.len() + 2, 0);
        self.reader.reset();
        let (_, _, written, ended) = self.reader.read_record(line.as_bytes(), &mut self.text, &mut self.ends);
        // The end of the input ends the last field.
        let (result, _, _, last) = self.reader.read_record(&[], &mut self.text[written..], &mut self.ends[ended..]);
        if result != ReadRecordResult::Record {
            return Err(open());
        }
        let mut start = 0;
        let fields = self.ends[..ended + last].iter().map(|&end| {
            let field = self.text.get(start..end).and_then(|field| str::from_utf8(field).ok());
            start = end;
            field.ok_or(Problem::NotText)
        });
        fields.collect()
    }
}

/// The keys of a request in Mooncake's format, as they are written.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    input_length: Option<&'a RawValue>,
    #[serde(borrow)]
    output_length: Option<&'a RawValue>,
}

impl<'a> Object<'a> {
    const fn values(&self) -> [Option<&'a RawValue>; 3] {
        [self.timestamp, self.input_length, self.output_length]
    }

    fn is_empty(&self) -> bool {
        self.values().iter().all(Option::is_none)
    }
}

fn is_object(line: &str) -> bool {
    line.trim_start().starts_with('{')
}

/// The request of a JSON object.
fn object(line: &str) -> Result<Row, Problem> {
    if !is_object(line) {
        return Err(Problem::Json { error: format!("found `{}`", excerpt(line)) });
    }
    let object: Object<'_> =
        serde_json::from_str(line).map_err(|error| Problem::Json { error: excerpt(&error.to_string()) })?;
    let [column, prompt_column, generate_column] = MOONCAKE.columns;
    let missing = |column| Problem::Missing { column, line: excerpt(line) };
    let [time, prompt, generate] = object.values().map(|value| value.map(RawValue::get));
    let time = time.ok_or_else(|| missing(column))?;
    let prompt = prompt.ok_or_else(|| missing(prompt_column))?;
    let generate = generate.ok_or_else(|| missing(generate_column))?;
    MOONCAKE.row([time, prompt, generate])
}
