//! Two pages that show the description of the interface, without any other host: one to read, one to
//! try the calls with.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;
use utoipa_swagger_ui::Config;

use super::{OPENAPI, answers};
use crate::gateway::proxy::Prefix;

/// The page to read.
pub async fn reference() -> Html<&'static str> {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        let document = serde_json::from_str(OPENAPI).unwrap_or_default();
        render(&document)
    });
    Html(&PAGE)
}

/// The page to try the calls with: its files lie below it.
pub async fn console(prefix: Prefix) -> Response {
    answers::redirect(
        StatusCode::FOUND,
        &format!("{prefix}/swagger-ui/index.html"),
    )
}

/// A file of Swagger UI.
pub async fn console_file(Path(file): Path<String>) -> Response {
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("../openapi.json").validator_url("none")));
    match utoipa_swagger_ui::serve(&file, CONFIG.clone()) {
        Ok(Some(file)) => (
            [(header::CONTENT_TYPE, file.content_type)],
            file.bytes.into_owned(),
        )
            .into_response(),
        Ok(None) => answers::plain(StatusCode::NOT_FOUND),
        Err(error) => {
            tracing::error!(%error, "file of the documentation not given out");
            answers::plain(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The document as a page: one section for each call, one for each schema.
fn render(document: &Value) -> String {
    let title = escaped(text(&document["info"], "title"));
    let mut page = format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <main>\n<h1>{title}</h1>\n<p>{}</p>\n\
         <p><a href=\"swagger-ui/index.html\">Try the calls</a> · <a href=\"openapi.json\">openapi.json</a></p>\n",
        escaped(text(&document["info"], "description"))
    );
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, call) in item.as_object().into_iter().flatten() {
            let _ = write!(
                page,
                "<section>\n<h2><code>{} {}</code></h2>\n<p>{}</p>\n",
                method.to_uppercase(),
                escaped(path),
                escaped(text(call, "summary"))
            );
            if let Some(schema) = call.pointer("/requestBody/content/application~1json/schema") {
                let _ = writeln!(page, "<p>Body: {}</p>", name_of(schema));
            }
            page += "<table>\n<tr><th>Answer<th>Body<th>Meaning\n";
            for (code, answer) in call["responses"].as_object().into_iter().flatten() {
                let schema = answer.pointer("/content/application~1json/schema");
                let _ = writeln!(
                    page,
                    "<tr><td>{}<td>{}<td>{}",
                    escaped(code),
                    schema.map(name_of).unwrap_or_default(),
                    escaped(text(answer, "description"))
                );
            }
            page += "</table>\n</section>\n";
        }
    }
    let schemas = &document["components"]["schemas"];
    for (name, schema) in schemas.as_object().into_iter().flatten() {
        let name = escaped(name);
        let _ = write!(
            page,
            "<section id=\"{name}\">\n<h2>{name}</h2>\n<p>{}</p>\n",
            escaped(text(schema, "description"))
        );
        page += "<table>\n<tr><th>Field<th>Type<th>Meaning\n";
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
            let shown = escaped(field);
            let shown = if required.contains(&field.as_str()) {
                format!("<b>{shown}</b>")
            } else {
                shown
            };
            let _ = writeln!(
                page,
                "<tr><td>{shown}<td>{}<td>{}",
                name_of(inner),
                escaped(text(inner, "description"))
            );
        }
        page += "</table>\n</section>\n";
    }
    page + "</main>\n</html>\n"
}

/// A link to a schema, or the type.
fn name_of(schema: &Value) -> String {
    if let Some(name) = text(schema, "$ref")
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
    {
        let name = escaped(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    match text(schema, "type") {
        "array" => format!("list of {}", name_of(&schema["items"])),
        "" => "any".to_owned(),
        name => escaped(name),
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#1a1a1a;background:#fff}\
main{max-width:60rem;margin:auto;padding:1rem}table{border-collapse:collapse;width:100%}\
th,td{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}\
code{font-size:.95em}a{color:#0b57d0}\
@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}a{color:#8ab4f8}th,td{border-color:#444}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_call_and_asks_no_other_host() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let page = render(&document);
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(page.contains(&escaped(path)), "{path}");
        }
        for schema in document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            assert!(page.contains(&format!("id=\"{schema}\"")), "{schema}");
        }
        assert!(!page.contains("src=") && !page.contains("//"), "{page}");
    }
}
