//! What the service does with a request.

use serde_json::{Value, json};

use crate::{BASE_PATH, Record, State, Stored, http::Answer, nifti};

/// An image to keep.
pub(crate) fn stored(
    file_name: &str,
    bytes: Vec<u8>,
    owner: Option<&str>,
    segmentation: bool,
    number: usize,
) -> Stored {
    Stored {
        name: stem(file_name).unwrap_or(file_name).to_owned(),
        file_name: file_name.to_owned(),
        bytes,
        owner: owner.map(str::to_owned),
        segmentation,
        secret: format!("{:056x}", (number as u128 + 1) * 0x9e37_79b9_7f4a_7c15_f39c),
        hidden_for: 0,
    }
}

/// The file name without `.nii` or `.nii.gz`; none for another ending.
fn stem(file_name: &str) -> Option<&str> {
    let stem = file_name.strip_suffix(".gz").unwrap_or(file_name);
    stem.strip_suffix(".nii")
}

fn text(status: u16, words: &str) -> Answer {
    Answer::new(status, "text/plain", words)
}

fn json_answer(value: &Value) -> Answer {
    Answer::new(200, "application/json", value.to_string())
}

/// Answers a request, and changes the state as it asks for.
pub(crate) fn answer(record: &Record, body: &[u8], state: &mut State) -> Answer {
    let method = record.method.as_str();
    if method == "OPTIONS" {
        return text(204, "")
            .with("Access-Control-Allow-Origin", "*")
            .with("Access-Control-Allow-Methods", "GET, POST, DELETE")
            .with(
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type, X-CHUNMA-SEGMENTATION, X-CHUNMA-FILESIZE",
            );
    }
    if let Some(name) = record.path.strip_prefix("/files/") {
        return match state.files.get(&decoded(name)) {
            Some(bytes) => file(
                record,
                bytes,
                "application/octet-stream",
                state.habits.ranges,
            ),
            None => text(404, "no such file"),
        };
    }
    let Some(path) = record.path.strip_prefix(BASE_PATH) else {
        return text(404, "nothing here");
    };
    // Viewers send no token; the path holds a secret.
    if let Some(rest) = path.strip_prefix("/nifti/") {
        return precomputed(method, rest, record, state);
    }
    let token = match token(record, body, path, state) {
        Ok(token) => token,
        Err(answer) => return answer,
    };
    let (first, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    match (method, first) {
        ("GET", "list") => list(token.as_deref(), state),
        ("POST", "preflight" | "upload") => match token {
            Some(token) => take(first == "upload", &token, record, body, state),
            None => text(401, "no token"),
        },
        ("GET", "download") => download(record, &decoded(rest), token.as_deref(), state),
        ("GET", "share") => share(&decoded(rest), token.as_deref(), state),
        ("POST", "export") => export(&decoded(rest), token.as_deref(), body, state),
        _ => text(404, "nothing here"),
    }
}

/// The token of a request; none for an anonymous one.
fn token(
    record: &Record,
    body: &[u8],
    path: &str,
    state: &State,
) -> Result<Option<String>, Answer> {
    let header = record.header("authorization").map(str::to_owned);
    // A form of a browser cannot set headers.
    let form = path.starts_with("/export/").then(|| field(body, "auth"));
    let Some(value) = header.or(form.flatten()) else {
        return Ok(None);
    };
    match value.strip_prefix("Bearer ") {
        Some(token) if state.tokens.iter().any(|known| known == token) => {
            Ok(Some(token.to_owned()))
        }
        _ => Err(text(401, "this token is not accepted")),
    }
}

fn visible(image: &Stored, token: Option<&str>) -> bool {
    image.owner.is_none() || image.owner.as_deref() == token
}

fn extra(image: &Stored, bytes: usize, state: &State) -> Value {
    let content = nifti::plain(&image.bytes);
    let mut extra = json!({
        "fileName": image.file_name, "fileSize": bytes, "fileSizeUncompressed": content.len(),
        "uploaded": "2026-01-01T00:00:00.000000Z", "warnings": [],
    });
    if let Some((described, neuroglancer)) =
        nifti::Header::read(&content).map(|header| header.describe(image.segmentation))
    {
        extra["nifti"] = described;
        if !state.habits.odd_entries {
            extra["neuroglancer"] = neuroglancer;
        }
    }
    extra
}

fn list(token: Option<&str>, state: &mut State) -> Answer {
    let mut entries = Vec::new();
    for image in &state.images {
        if image.hidden_for > 0 || !visible(image, token) {
            continue;
        }
        let mut extra = extra(image, image.bytes.len(), state);
        extra["data"] = if state.habits.odd_entries {
            json!({"minValue": "0.0", "maxValue": "1.0", "future": [1]})
        } else {
            json!({"minValue": 0.0, "maxValue": 1.0})
        };
        entries.push(json!({
            "name": image.name,
            "visibility": if image.owner.is_some() { "private" } else { "public" },
            "links": {"normalized": format!("/nifti/{}/{}", image.secret, image.name)},
            "extra": extra,
        }));
    }
    for image in &mut state.images {
        image.hidden_for = image.hidden_for.saturating_sub(1);
    }
    json_answer(&Value::Array(entries))
}

/// `preflight`, which stores nothing, and `upload`.
fn take(whole: bool, token: &str, record: &Record, body: &[u8], state: &mut State) -> Answer {
    let Some((file_name, bytes)) = part(record, body) else {
        return text(400, "expected one part `image` with a file name");
    };
    if stem(&file_name).is_none() {
        return text(400, "expected a name that ends with .nii or .nii.gz");
    }
    let told = record.header("x-chunma-filesize").unwrap_or("UNKNOWN");
    if whole && told != "UNKNOWN" && told.parse() != Ok(bytes.len()) {
        return text(400, "the file has another size than the header says");
    }
    let file_name = match (&state.habits.rename, whole) {
        (Some(end), true) => file_name.replacen(".nii", &format!("{end}.nii"), 1),
        _ => file_name,
    };
    let segmentation = record.header("x-chunma-segmentation") == Some("true");
    let number = state.images.len();
    let mut image = stored(
        &file_name,
        bytes.to_vec(),
        Some(token),
        segmentation,
        number,
    );
    let mut own = state.images.iter();
    let taken = own.any(|other| other.name == image.name && visible(other, Some(token)));
    if taken && (whole || !state.habits.blind_preflight) {
        return text(409, "there is an image of this name");
    }
    // What begins like gzip may be cut in a preflight; what it holds of a header must be one.
    if nifti::Header::read(&nifti::plain(bytes)).is_none() {
        return text(400, "not a NIfTI file");
    }
    let mut answer = extra(&image, told.parse().unwrap_or(bytes.len()), state);
    if whole {
        answer["data"] = json!({"minValue": 0.0, "maxValue": 1.0});
        if state.habits.recompress {
            image.bytes = nifti::compress(&nifti::plain(bytes));
        }
        image.hidden_for = state.habits.list_delay;
        state.images.push(image);
        state.uploads += 1;
    }
    json_answer(&answer)
}

/// File name and content of the part `image` of a form.
fn part<'a>(record: &Record, body: &'a [u8]) -> Option<(String, &'a [u8])> {
    let kind = record.header("content-type")?;
    let mark = format!("--{}", kind.split_once("boundary=")?.1);
    let start = body.strip_prefix(mark.as_bytes())?;
    let end = start.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&start[..end]).ok()?;
    head.contains("name=\"image\"").then_some(())?;
    let file_name = head.split_once("filename=\"")?.1.split_once('"')?.0;
    let tail = format!("\r\n{mark}--\r\n");
    let content = start[end + 4..].strip_suffix(tail.as_bytes())?;
    Some((file_name.to_owned(), content))
}

fn download(record: &Record, file_name: &str, token: Option<&str>, state: &State) -> Answer {
    let ranges = state.habits.ranges;
    for image in state.images.iter().filter(|image| visible(image, token)) {
        let compressed = image.bytes.starts_with(&[0x1f, 0x8b]);
        if file_name == image.name {
            let disposition = format!("attachment; filename=\"{}\"", image.file_name);
            return file(record, &image.bytes, "application/octet-stream", ranges)
                .with("Content-Disposition", disposition);
        }
        if file_name == format!("{}.nii.gz", image.name) && compressed {
            return file(record, &image.bytes, "application/gzip", ranges);
        }
        if file_name == format!("{}.nii", image.name) {
            let content = nifti::plain(&image.bytes);
            return file(record, &content, "application/octet-stream", ranges);
        }
    }
    text(404, "no such image")
}

/// A file, or the rest of it from where it is asked for.
fn file(record: &Record, bytes: &[u8], kind: &str, ranges: bool) -> Answer {
    if !ranges {
        return Answer::new(200, kind, bytes);
    }
    let version = format!("\"{}-{}\"", bytes.len(), bytes.last().unwrap_or(&0));
    let from = record
        .header("range")
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .filter(|_| record.header("if-range") == Some(&version));
    let answer = match from {
        Some(from) if from < bytes.len() => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::new(206, kind, &bytes[from..]).with("Content-Range", range)
        }
        Some(_) => text(416, ""),
        None => Answer::new(200, kind, bytes),
    };
    answer.with("ETag", version)
}

fn precomputed(method: &str, rest: &str, record: &Record, state: &mut State) -> Answer {
    let mut parts = rest.splitn(3, '/');
    let (secret, name) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let name = decoded(name);
    let mut all = state.images.iter();
    let Some(at) = all.position(|image| image.secret == secret && image.name == name) else {
        return text(404, "nothing here");
    };
    let image = &state.images[at];
    if method == "DELETE" {
        let owner = image.owner.as_ref().map(|token| format!("Bearer {token}"));
        if owner.is_none() || record.header("authorization") != owner.as_deref() {
            return text(401, "only its owner may delete a private image");
        }
        state.images.remove(at);
        return text(200, "");
    }
    let content = nifti::plain(&image.bytes);
    let Some(header) = nifti::Header::read(&content) else {
        return text(404, "nothing here");
    };
    let [x, y, z] = header.shape;
    match parts.next().unwrap_or("") {
        "info" => {
            json_answer(&header.info(image.segmentation)).with("Access-Control-Allow-Origin", "*")
        }
        chunk if chunk == format!("full/0-{x}_0-{y}_0-{z}") => Answer::new(
            200,
            "application/octet-stream",
            content.get(352..).unwrap_or_default(),
        ),
        _ => text(404, "nothing here"),
    }
}

fn share(name: &str, token: Option<&str>, state: &State) -> Answer {
    let mut own = state.images.iter();
    match own.find(|image| image.name == name && token.is_some() && visible(image, token)) {
        Some(image) => text(200, &format!("nifti/{}/{}", image.secret, image.name)),
        None => text(404, "no such image"),
    }
}

fn export(file_name: &str, token: Option<&str>, body: &[u8], state: &State) -> Answer {
    let name = file_name.strip_suffix(".nii.gz").unwrap_or(file_name);
    let mut own = state.images.iter();
    let Some(image) = own.find(|image| image.name == name && visible(image, token)) else {
        return text(404, "no such image");
    };
    let matrix = field(body, "json")
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .map(|json| json["transformMatrixInNm"].clone())
        .and_then(|matrix| nifti::with_affine(&nifti::plain(&image.bytes), &matrix));
    match matrix {
        Some(content) => Answer::new(200, "application/gzip", nifti::compress(&content)),
        None => text(400, "expected the field `json` with transformMatrixInNm"),
    }
}

/// A field of a URL-encoded form.
fn field(body: &[u8], name: &str) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    let mut fields = body.split('&').filter_map(|field| field.split_once('='));
    let (_, value) = fields.find(|(key, _)| *key == name)?;
    Some(decoded(&value.replace('+', " ")))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%')
            .then(|| std::str::from_utf8(after.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
