//! The definitions: what is in them, how they are written, what is refused.

use std::collections::BTreeMap;

use memory_core::{MetaKey, Metric};

use super::*;

fn settings() -> FirestoreSettings {
    let mut settings = FirestoreSettings::new("my-project");
    settings.prefix = "t_".to_owned();
    settings.filter_keys = BTreeMap::from([
        (MetaKey::new("a,b'").unwrap(), FilterKeyType::Text),
        (MetaKey::new("tags").unwrap(), FilterKeyType::List),
    ]);
    settings
}

fn space(dimensions: u32) -> EmbeddingSpace {
    EmbeddingSpace::new("m", "1", dimensions, Metric::Cosine).unwrap()
}

#[test]
fn the_defaults_come_to_so_many() {
    let count = |settings: &FirestoreSettings, spaces: &[EmbeddingSpace]| {
        IndexDefinitions::new(settings, spaces).unwrap().count()
    };
    let mut settings = FirestoreSettings::new("p");
    // Two orders, both ways: alone, five equalities, ranges; kinds, and embedded memories by id.
    assert_eq!(count(&settings, &[]), 2 * 2 * (1 + 5 + 1) + 2);
    // A space takes an index for each of six scopes, and is defined once.
    assert_eq!(count(&settings, &[space(3), space(3)]), 30 + 6);
    settings.ranges = false;
    assert_eq!(count(&settings, &[]), 2 * 2 * (1 + 5) + 2);
    settings.orders.remove(&OrderField::Id);
    // The walk by id stays.
    assert_eq!(count(&settings, &[]), 2 * (1 + 5) + 3);
    let mut settings = self::settings();
    // A key: one more equality; a list: its members too, alone and with the ranges.
    assert_eq!(count(&settings, &[]), 2 * 2 * (1 + 5 + 2 + 1 + 1 + 1) + 2);
    settings.filter_keys.clear();
    assert_eq!(count(&settings, &[]), 30);
}

#[test]
fn the_file_is_as_the_tools_read_it() {
    let definitions = IndexDefinitions::new(&settings(), &[space(384)]).unwrap();
    let json: Value = serde_json::from_str(&definitions.to_json()).unwrap();
    let indexes = json["indexes"].as_array().unwrap();
    let index = |fields: Value| json!({ "collectionGroup": "t_memories", "queryScope": "COLLECTION", "fields": fields });
    let descending = |path: &str| json!({ "fieldPath": path, "order": "DESCENDING" });
    let ascending = |path: &str| json!({ "fieldPath": path, "order": "ASCENDING" });
    let contains = |path: &str| json!({ "fieldPath": path, "arrayConfig": "CONTAINS" });
    let vector = model::vector_path(&space(384));
    let vector = json!({ "fieldPath": vector, "vectorConfig": { "dimension": 384, "flat": {} } });
    for fields in [
        json!([descending("by_occurred"), descending("visible_until")]),
        json!([ascending("user_id"), descending("by_occurred"), descending("visible_until")]),
        json!([ascending("keys.`a,b'`"), ascending("by_id"), ascending("visible_until")]),
        json!([contains("lists.tags"), ascending("by_id"), ascending("visible_until")]),
        json!([ascending("kind"), ascending("visible_until")]),
        json!([contains("spaces"), ascending("by_id"), ascending("visible_until")]),
        json!([vector]),
        json!([ascending("user_id"), ascending("session_id"), vector]),
    ] {
        assert!(indexes.contains(&index(fields.clone())), "{fields}");
    }
    let overrides = json["fieldOverrides"].as_array().unwrap();
    let of = |collection: &str, field: &str| {
        let own =
            |said: &&Value| said["collectionGroup"] == collection && said["fieldPath"] == field;
        let all: Vec<_> = overrides.iter().filter(own).collect();
        assert_eq!(all.len(), 1, "{field} is said once");
        all[0]
    };
    let until = of("t_memories", "visible_until");
    assert_eq!((&until["ttl"], until["indexes"].as_array().unwrap().len()), (&json!(true), 3));
    assert_eq!(of("t_keys", "delete_at")["ttl"], json!(true));
    for exempt in ["content", "payload", "metadata", "keys", "lists", "by_occurred"] {
        assert_eq!(of("t_memories", exempt)["indexes"], json!([]), "{exempt}");
        assert!(of("t_memories", exempt).get("ttl").is_none());
    }
    assert_eq!(of("t_memories", &model::vector_path(&space(384)))["indexes"], json!([]));
    // Erasures walk by user, and upkeep by what a document's spaces hold.
    assert!(overrides.iter().all(|said| said["fieldPath"] != "user_id"));
    assert!(overrides.iter().all(|said| said["fieldPath"] != "spaces"));
    let again = IndexDefinitions::new(&settings(), &[space(384)]).unwrap();
    assert_eq!(again.to_json(), definitions.to_json());
}

#[test]
fn the_commands_say_the_same() {
    let definitions = IndexDefinitions::new(&settings(), &[space(384)]).unwrap();
    let commands = definitions.gcloud_commands();
    let of = |word: &str| commands.iter().filter(|command| command.contains(word)).count();
    assert_eq!(of("gcloud firestore indexes composite create "), definitions.count());
    assert_eq!(of("--enable-ttl"), 2);
    assert_eq!(of("--disable-indexes"), EXEMPT.len() + 2);
    assert!(commands.iter().all(|command| {
        command.contains("--project=my-project") && command.contains(" '--database=(default)' ")
    }));
    let vector = model::vector_path(&space(384));
    for wanted in [
        "gcloud firestore indexes composite create --project=my-project '--database=(default)' \
         --collection-group=t_memories --query-scope=COLLECTION \
         --field-config=field-path=user_id,order=ascending \
         --field-config=field-path=by_occurred,order=descending \
         --field-config=field-path=visible_until,order=descending --async",
        "gcloud firestore fields ttls update visible_until --project=my-project \
         '--database=(default)' --collection-group=t_memories --enable-ttl --async",
        "gcloud firestore indexes fields update content --project=my-project \
         '--database=(default)' --collection-group=t_memories --disable-indexes --async",
    ] {
        assert!(commands.iter().any(|command| command == wanted), "{wanted}\n{commands:#?}");
    }
    let odd = r#"'--field-config={"field-path":"keys.`a,b'\''`","order":"ascending"}'"#;
    assert!(commands.iter().any(|command| command.contains(odd)), "{odd}");
    let nearest = format!(
        "'--field-config={{\"field-path\":\"{vector}\",\"vector-config\":{{\"dimension\":384,\
         \"flat\":{{}}}}}}'"
    );
    assert!(commands.iter().any(|command| command.contains(&nearest)), "{nearest}");
    let mut anywhere = settings();
    anywhere.project.clear();
    let commands = IndexDefinitions::new(&anywhere, &[]).unwrap().gcloud_commands();
    assert!(commands.iter().all(|command| !command.contains("--project")));
}

#[test]
fn what_the_service_would_refuse_is_refused_here() {
    let error = IndexDefinitions::new(&settings(), &[space(2_049)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("2049") && error.message().contains("2048"), "{error}");
    assert!(IndexDefinitions::new(&settings(), &[space(2_048)]).is_ok());
    let spaces: Vec<_> = (1..=200).map(space).collect();
    let error = IndexDefinitions::new(&settings(), &spaces).unwrap_err();
    assert!(error.message().contains("1000"), "{error}");
    let mut bad = settings();
    bad.channels = 0;
    assert_eq!(IndexDefinitions::new(&bad, &[]).unwrap_err().kind(), ErrorKind::Config);
}
