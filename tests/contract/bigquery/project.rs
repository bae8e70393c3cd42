//! A project on the emulator as somebody else uses it: tables made, rows put in and read, without the adapter under test.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tipoff::port::Row;

/// One project.
pub struct Project {
    http: reqwest::Client,
    /// Everything of the project is below this.
    url: String,
    name: String,
}

impl Project {
    pub fn new(name: &str, address: &str) -> Self {
        let url = format!("http://{address}/bigquery/v2/projects/{name}");
        Self { http: reqwest::Client::new(), url, name: name.to_owned() }
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.http.post(format!("{}/{path}", self.url)).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Makes a table and its dataset; false where the table is there.
    pub async fn create(&self, dataset: &str, table: &str, fields: &[(&str, &str)]) -> bool {
        let reference = json!({ "projectId": self.name, "datasetId": dataset });
        let (status, answer) = self.post("datasets", json!({ "datasetReference": reference })).await;
        assert!(status == 200 || status == 409, "{answer}");
        let mut reference = reference;
        reference["tableId"] = json!(table);
        let fields: Vec<Value> = fields.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
        let body = json!({ "tableReference": reference, "schema": { "fields": fields } });
        let (status, answer) = self.post(&format!("datasets/{dataset}/tables"), body).await;
        assert!(status == 200 || status == 409, "{answer}");
        status == 200
    }

    pub async fn delete(&self, dataset: &str, table: &str) {
        let url = format!("{}/datasets/{dataset}/tables/{table}", self.url);
        assert!(self.http.delete(url).send().await.unwrap().status().is_success());
    }

    pub async fn insert(&self, dataset: &str, table: &str, rows: Vec<Value>) {
        let rows: Vec<Value> = rows.into_iter().map(|row| json!({ "json": row })).collect();
        let path = format!("datasets/{dataset}/tables/{table}/insertAll");
        let (status, answer) = self.post(&path, json!({ "rows": rows })).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Every row of a table, columns without a value left out.
    pub async fn rows(&self, dataset: &str, table: &str) -> Vec<Row> {
        let query = format!("SELECT * FROM `{dataset}.{table}`");
        let body = json!({ "query": query, "useLegacySql": false, "maxResults": 10_000 });
        let (status, answer) = self.post("queries", body).await;
        assert!(status == 200 && answer.get("errors").is_none(), "{answer}");
        let fields = answer["schema"]["fields"].as_array().unwrap();
        let rows = answer["rows"].as_array().unwrap();
        rows.iter().map(|row| columns(fields, row["f"].as_array().unwrap())).collect()
    }
}

fn columns(fields: &[Value], cells: &[Value]) -> Row {
    let mut row = Map::new();
    for (field, cell) in fields.iter().zip(cells) {
        let name = field["name"].as_str().unwrap().to_owned();
        match &cell["v"] {
            Value::Null => {}
            Value::Array(values) if values.is_empty() => {}
            Value::Array(values) => {
                row.insert(name, values.iter().map(|value| value["v"].clone()).collect());
            }
            Value::String(text) => {
                row.insert(name, value(field["type"].as_str().unwrap(), text));
            }
            other => panic!("{name}: {other}"),
        }
    }
    row
}

/// A value out of the text that every value travels as.
fn value(kind: &str, text: &str) -> Value {
    match kind {
        "STRING" | "DATE" => json!(text),
        "INTEGER" => json!(text.parse::<i64>().unwrap()),
        "FLOAT" => json!(text.parse::<f64>().unwrap()),
        "BOOLEAN" => json!(text == "true"),
        "TIMESTAMP" => json!(Timestamp::from_microsecond(text.parse().unwrap()).unwrap().to_string()),
        "JSON" => serde_json::from_str(text).unwrap(),
        other => panic!("{other}"),
    }
}
