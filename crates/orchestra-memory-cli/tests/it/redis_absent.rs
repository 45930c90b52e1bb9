//! A program that was built without Redis says so.

use crate::world::World;

#[test]
fn the_feature_redis_is_named() {
    let world = World::new();
    world.add("a", "one");
    world.file("settings.toml", "[redis]\nprefix = \"p\"\n");
    for args in [
        &["stats", "--store", "redis://h"][..],
        &["stats", "--store", "rediss://u:secret@h"],
        &["stats", "--cache", "redis://u:secret@h"],
        &["stats", "--config", "settings.toml"],
    ] {
        let error = world.error(args, 8);
        assert_eq!(error["kind"], "unsupported", "{args:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("feature `redis`"), "{args:?}: {message}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
