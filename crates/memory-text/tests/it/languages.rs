//! Frozen terms of every language: when one of these changes, so have the rules or a stemmer,
//! and `ANALYZER_VERSION` must grow.

use memory_text::{ANALYZER_VERSION, Analyzer, Language};

fn terms(language: Language, text: &str) -> String {
    Analyzer::new(language).query_terms(text).join(" ")
}

#[test]
fn frozen_terms_of_version_one() {
    assert_eq!(ANALYZER_VERSION, 1, "freeze a new table beside this one");
    let table = [
        (
            Language::English,
            "Caroline's horses were running happily in the cafés.",
            "carolin hors run happili cafe",
        ),
        (
            Language::German,
            "Die Häuser der Straße waren schöner als Müllers Gärten.",
            "haus strass schon mull gart",
        ),
        (
            Language::French,
            "L'été dernier, nous étions allés à l'école des élèves.",
            "derni alle ecol elev",
        ),
        (
            Language::Spanish,
            "Las canciones que cantábamos en la estación.",
            "cancion cant estacion",
        ),
        (
            Language::Italian,
            "Le città dell'arte erano più belle degli altri.",
            "citt arte bell altri",
        ),
        (
            Language::Portuguese,
            "As canções das crianças não são informações.",
            "canco crianc inform",
        ),
        (Language::Dutch, "De kinderen hebben met hun fietsen gespeeld.", "kinder fiets speel"),
        (Language::Swedish, "Flickorna åkte till skolorna med bussarna.", "flick akt skol buss"),
        (Language::Danish, "Pigerne kørte til skolerne på øen.", "pig kort skol oen"),
        (Language::Norwegian, "Jentene kjørte til skolene på øya.", "jent kjort skol oya"),
        (Language::Finnish, "Lapset leikkivät puutarhoissa kesällä.", "laps leikkiv puutarho kesa"),
        (Language::Polish, "Dzieci bawiły się w ogrodach z łódkami.", "dziec baw ogrod lodk"),
        (Language::Russian, "Её йогурт и ёлки стояли рядом с книгами.", "йогурт елк стоя ряд книг"),
        (Language::Turkish, "İstanbul'daki kitaplar IŞIKLI evlerde.", "istanbul kitap isikli ev"),
        (Language::Greek, "Οι άνθρωποι μιλούσαν για τους δρόμους ΤΟΥΣ ΔΡΌΜΟΥΣ.", "ανθρωπ μιλ δρομ"),
        (Language::Arabic, "الكُتُب في المدرسة والطلاب", "كتب مدرس والطلاب"),
        (Language::None, "The horses, Straße, Ελλάδα, ёлка", "the horses strasse ελλαδα елка"),
    ];
    assert_eq!(table.len(), Language::all().len());
    for (language, text, expected) in table {
        assert_eq!(terms(language, text), expected, "{language}");
    }
}

#[test]
fn scripts_under_the_default_analyser() {
    let table = [
        ("我爱北京天安门", "我爱 爱北 北京 京天 天安 安门"),
        ("東京タワーへ行く", "東京 京タ タワ ワー ーへ へ行 行く"),
        ("ﾊﾟﾘ", "パリ"),
        ("서울에서 만났어요", "서울 울에 에서 만났 났어 어요"),
        ("สวัสดี", "สวั วัส สดี"),
        ("ខ្មែរ", "ខ្មែ មែរ"),
        ("привет мир", "привет мир"),
        ("Γειά σου Κόσμε", "γεια σου κοσμε"),
        ("مرحبا بالعالم", "مرحبا بالعالم"),
        ("שָׁלוֹם עולם", "שלום עולם"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("👍 great 🎉🎉", "👍 great 🎉"),
        ("a\0b\u{7}c", "b c"),
        ("cafe\u{0301} café CAFÉ", "cafe"),
        ("Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢", "za"),
        ("naïve naive résumé resume", "naiv resum"),
        ("“Quoted”—dashed…words", "quot dash word"),
    ];
    for (text, expected) in table {
        assert_eq!(terms(Language::English, text), expected, "{text}");
    }
}

#[test]
fn a_question_meets_its_document() {
    let pairs = [
        (Language::English, "What are Melanie's hobbies?", "Melanie loves her hobby"),
        (Language::English, "when: 7 May 2023", "on 2023-05-07? no, May 7th, 2023"),
        (Language::German, "Mueller", "Herr Müller"),
        (Language::German, "Haus", "viele Häuser"),
        (Language::French, "eleve", "l'élève"),
        (Language::Spanish, "cancion", "la canción"),
        (Language::Russian, "елка", "ёлки"),
        (Language::Greek, "δρόμος", "ΔΡΌΜΟΥΣ"),
        (Language::None, "北京", "我在北京市"),
    ];
    for (language, question, document) in pairs {
        let analyzer = Analyzer::new(language);
        let found = analyzer.terms(document);
        for term in analyzer.query_terms(question) {
            assert!(found.get(&term) > 0, "{language}: {question:?}: {term} not in {found:?}");
        }
        assert_eq!(found.get("nowhere"), 0);
    }
}
