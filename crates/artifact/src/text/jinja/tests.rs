//! Every row of the table that `fixtures/make.py` wrote with Python's Jinja2.

use minijinja::value::Serde;
use serde_json::{Map, Value as Json};

use super::*;

const TABLE: &str = include_str!("fixtures/table.json");

/// The text that a template makes of these variables; `null` for an error, as in the table.
fn render(source: &str, variables: &Map<String, Json>) -> Json {
    let mut templates = Templates::new(1 << 20, 100);
    let rendered =
        templates.add("t".to_owned(), source).and_then(|()| templates.render("t", "t", Value::from(Serde(variables))));
    rendered.map_or(Json::Null, Json::String)
}

fn strings(list: &Json) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// Renders templates, and compares with what Jinja2 made of them, but for the differences that the table names.
fn assert_same(table: &Json, rows: Vec<(String, Json)>) {
    let known = table["different"].as_object().unwrap();
    assert!(rows.len() > 50 && known.len() < 5);
    let different = |(source, expected): &(String, Json)| {
        let seen = render(source, &Map::new());
        (seen != *expected && !known.keys().any(|part| source.contains(part)))
            .then(|| format!("{source}\n    seen     {seen}\n    expected {expected}"))
    };
    let different: Vec<String> = rows.iter().filter_map(different).collect();
    assert!(different.is_empty(), "{} of {} rows differ:\n{}", different.len(), rows.len(), different.join("\n"));
}

#[test]
fn filters_tests_methods_and_expressions() {
    let table: Json = serde_json::from_str(TABLE).unwrap();
    let values = strings(&table["values"]);
    let mut rows = Vec::new();
    for (case, results) in table["cases"].as_object().unwrap() {
        let is_template = case.contains("{%") || case.contains("{{");
        let body = if is_template { case.clone() } else { format!("{{{{ [{case}] }}}}") };
        let results = results.as_array().unwrap();
        assert_eq!(results.len(), values.len(), "{case}");
        for (value, expected) in values.iter().zip(results) {
            rows.push((format!("{{% set X = {value} %}}{body}"), expected.clone()));
        }
    }
    assert_same(&table, rows);
}

#[test]
fn operators_on_pairs() {
    let table: Json = serde_json::from_str(TABLE).unwrap();
    let values = strings(&table["paired"]);
    let mut rows = Vec::new();
    for (operator, results) in table["pairs"].as_object().unwrap() {
        let results = results.as_array().unwrap();
        assert_eq!(results.len(), values.len(), "{operator}");
        for (left, results) in values.iter().zip(results) {
            let results = results.as_array().unwrap();
            assert_eq!(results.len(), values.len(), "{left} {operator}");
            for (right, expected) in values.iter().zip(results) {
                rows.push((format!("{{{{ [({left}) {operator} ({right})] }}}}"), expected.clone()));
            }
        }
    }
    assert_same(&table, rows);
}

#[test]
fn whole_templates() {
    let table: Json = serde_json::from_str(TABLE).unwrap();
    let row = |row: &Json| (row[0].as_str().unwrap().to_owned(), row[1].clone());
    assert_same(&table, table["templates"].as_array().unwrap().iter().map(row).collect());
}

#[test]
fn templates_of_the_supported_families() {
    const FAMILIES: [(&str, &str); 5] = [
        ("deepseek_v3", include_str!("fixtures/deepseek_v3.jinja")),
        ("glm4_moe", include_str!("fixtures/glm4_moe.jinja")),
        ("mimo", include_str!("fixtures/mimo.jinja")),
        ("minimax_m2", include_str!("fixtures/minimax_m2.jinja")),
        ("qwen3_5", include_str!("fixtures/qwen3_5.jinja")),
    ];
    let table: Json = serde_json::from_str(TABLE).unwrap();
    let scenarios = table["scenarios"].as_object().unwrap();
    assert_eq!((scenarios.len(), table["families"].as_object().unwrap().len()), (8, FAMILIES.len()));
    for (family, source) in FAMILIES {
        for (scenario, given) in scenarios {
            let mut variables = table["tokens"].as_object().unwrap().clone();
            variables.extend(
                [("add_generation_prompt", true.into()), ("tools", Json::Null), ("documents", Json::Null)]
                    .map(|(name, value): (&str, Json)| (name.to_owned(), value)),
            );
            variables.extend(given.as_object().unwrap().clone());
            assert_eq!(render(source, &variables), table["families"][family][scenario], "{family}: {scenario}");
        }
    }
}
