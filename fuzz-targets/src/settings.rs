//! Settings as TOML.

use orchestra_memory::Settings;

/// A text is refused, with an error that says where, or gives settings that are valid and, where
/// they hold no secret (which is never written), come back from their own TOML.
///
/// # Panics
/// Where an invariant is broken.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = Settings::from_toml_str(text);
    let again = Settings::from_toml_str(text);
    let settings = match (read, again) {
        (Ok(settings), Ok(again)) => {
            assert!(settings == again, "the same text gives the same settings");
            settings
        }
        (Err(error), Err(again)) => {
            assert!(!error.message().is_empty());
            assert_eq!(error.message(), again.message());
            return;
        }
        _ => panic!("a text was taken once and refused once"),
    };
    assert!(settings.validate().is_ok(), "settings that were read are valid");
    let written = settings.to_toml_string().expect("settings can be written");
    // A key that is left out of the text may be one that the provider cannot be without.
    if settings.embedding.http.api_key.is_none() {
        let back = Settings::from_toml_str(&written).expect("settings read their own text");
        assert!(back == settings, "settings come back from their own text");
    }
}
