//! The plan: which arms a request uses, decided before anything is sent.

use memory_core::{Error, Result};

use crate::answer::Arm;
use crate::request::{ArmSelection, SearchRequest};

/// Which arms run, and what the caller should know about those that do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of [`crate::fusion::ARMS`]; one at least is true.
    pub(crate) runs: [bool; 2],
    pub(crate) notes: Vec<String>,
}

/// Why an arm cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Input,
    Index,
    Both,
}

impl Lack {
    fn of(has_input: bool, has_index: bool) -> Option<Self> {
        match (has_input, has_index) {
            (true, true) => None,
            (false, true) => Some(Self::Input),
            (true, false) => Some(Self::Index),
            (false, false) => Some(Self::Both),
        }
    }

    fn reason(self, arm: Arm, request: &SearchRequest) -> String {
        let input = match (arm, &request.no_vector_reason) {
            (Arm::Keyword, _) => "no search text was given",
            (Arm::Vector, None) => "no query vector was given",
            (Arm::Vector, Some(reason)) => reason,
        };
        match self {
            Self::Input => input.to_owned(),
            Self::Index => format!("this store has no {arm} index"),
            Self::Both => format!("{input} and this store has no {arm} index"),
        }
    }

    /// The note of an answer that rests on the other arm alone.
    fn note(self, arm: Arm, request: &SearchRequest) -> String {
        let reason = self.reason(arm, request);
        match (arm, self) {
            (Arm::Keyword, Self::Index) => format!("searched by meaning alone: {reason}"),
            (Arm::Keyword, _) => format!("vector search only: {reason}"),
            (Arm::Vector, _) => format!("keyword search only: {reason}"),
        }
    }

    /// The error of an arm that was asked for by name: what the caller can mend comes first.
    fn error(self, arm: Arm, request: &SearchRequest) -> Error {
        let message = format!("{arm} search was asked for, but {}", self.reason(arm, request));
        match self {
            Self::Input | Self::Both => Error::invalid(message),
            Self::Index => Error::unsupported(message),
        }
    }
}

/// Decides which arms a valid request uses, given which indexes there are.
///
/// # Errors
/// `InvalidInput`: an arm was asked for by name without its input. `Unsupported`: its index is
/// missing, or no arm can serve the request at all.
pub(crate) fn plan(request: &SearchRequest, has_index: [bool; 2]) -> Result<Plan> {
    let keyword = Lack::of(request.text.is_some(), has_index[0]);
    let vector = Lack::of(request.vector.is_some(), has_index[1]);
    let need = |lack: Option<Lack>, arm| lack.map_or(Ok(()), |lack| Err(lack.error(arm, request)));
    let mut notes = Vec::new();
    let runs = match request.arms {
        ArmSelection::KeywordOnly => {
            need(keyword, Arm::Keyword)?;
            [true, false]
        }
        ArmSelection::VectorOnly => {
            need(vector, Arm::Vector)?;
            [false, true]
        }
        ArmSelection::Both => {
            need(keyword, Arm::Keyword)?;
            need(vector, Arm::Vector)?;
            [true, true]
        }
        ArmSelection::Auto => {
            match (keyword, vector) {
                (None, None) => {}
                (None, Some(lack)) => {
                    notes.push(lack.note(Arm::Vector, request));
                }
                (Some(lack), None) => {
                    notes.push(lack.note(Arm::Keyword, request));
                }
                (Some(first), Some(second)) => {
                    // With a vector index alone, a vector is all that is missing.
                    let advice = match (first, second) {
                        (Lack::Index, Lack::Input) => {
                            "; configure an embedder, or pass a query vector"
                        }
                        _ => "",
                    };
                    return Err(Error::unsupported(format!(
                        "nothing can serve this search: {}; {}{advice}",
                        first.reason(Arm::Keyword, request),
                        second.reason(Arm::Vector, request)
                    )));
                }
            }
            [keyword.is_none(), vector.is_none()]
        }
    };
    Ok(Plan { runs, notes })
}

#[cfg(test)]
mod tests {
    use memory_core::{EmbeddingSpace, ErrorKind, Metric};

    use super::*;

    fn request(text: bool, vector: bool, arms: ArmSelection) -> SearchRequest {
        let mut request = SearchRequest::new().with_arms(arms);
        if text {
            request = request.with_text("tea");
        }
        if vector {
            let space = EmbeddingSpace::new("m", "1", 1, Metric::Dot).unwrap();
            request = request.with_vector(space, vec![1.0]);
        }
        request
    }

    #[test]
    fn every_combination_of_input_index_and_selection() {
        use ArmSelection::{Auto, Both, KeywordOnly, VectorOnly};
        use ErrorKind::{InvalidInput, Unsupported};
        type Outcome = Result<([bool; 2], &'static str), (ErrorKind, &'static str)>;
        const K: [bool; 2] = [true, false];
        const V: [bool; 2] = [false, true];
        const KV: [bool; 2] = [true, true];
        const NONE: [bool; 2] = [false, false];
        let table: [(ArmSelection, [bool; 2], [bool; 2], Outcome); 24] = [
            (Auto, KV, KV, Ok((KV, ""))),
            (Auto, K, KV, Ok((K, "keyword search only: no query vector was given"))),
            (Auto, V, KV, Ok((V, "vector search only: no search text was given"))),
            (Auto, KV, K, Ok((K, "keyword search only: this store has no vector index"))),
            (Auto, KV, V, Ok((V, "searched by meaning alone: this store has no keyword index"))),
            (Auto, K, K, Ok((K, "no query vector was given and this store has no vector index"))),
            (Auto, V, V, Ok((V, "no search text was given and this store has no keyword index"))),
            (Auto, K, V, Err((Unsupported, "no keyword index; no query vector was given; config"))),
            (Auto, V, K, Err((Unsupported, "no search text was given; this store has no vector"))),
            (Auto, KV, NONE, Err((Unsupported, "no keyword index; this store has no vector"))),
            (KeywordOnly, KV, KV, Ok((K, ""))),
            (KeywordOnly, K, K, Ok((K, ""))),
            (KeywordOnly, V, KV, Err((InvalidInput, "no search text"))),
            (KeywordOnly, V, V, Err((InvalidInput, "no search text"))),
            (KeywordOnly, KV, V, Err((Unsupported, "no keyword index"))),
            (VectorOnly, KV, KV, Ok((V, ""))),
            (VectorOnly, V, V, Ok((V, ""))),
            (VectorOnly, K, KV, Err((InvalidInput, "no query vector"))),
            (VectorOnly, KV, K, Err((Unsupported, "no vector index"))),
            (Both, KV, KV, Ok((KV, ""))),
            (Both, K, KV, Err((InvalidInput, "no query vector"))),
            (Both, V, KV, Err((InvalidInput, "no search text"))),
            (Both, KV, K, Err((Unsupported, "no vector index"))),
            (Both, KV, V, Err((Unsupported, "no keyword index"))),
        ];
        for (arms, input, index, want) in table {
            let case = format!("{arms:?} {input:?} {index:?}");
            match (plan(&request(input[0], input[1], arms), index), want) {
                (Ok(plan), Ok((runs, note))) => {
                    assert_eq!(plan.runs, runs, "{case}");
                    assert_eq!(plan.notes.len(), usize::from(!note.is_empty()), "{case}");
                    assert!(plan.notes.concat().contains(note), "{case}: {:?}", plan.notes);
                }
                (Err(error), Err((kind, part))) => {
                    assert_eq!(error.kind(), kind, "{case}");
                    assert!(error.message().contains(part), "{case}: {error}");
                }
                (got, want) => panic!("{case}: {got:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn the_callers_reason_for_a_missing_vector_takes_the_place_of_the_usual_one() {
        let request = |arms| request(true, false, arms).with_no_vector_reason("it rained");
        let planned = |arms, vectors| plan(&request(arms), [true, vectors]);
        let note = |vectors| planned(ArmSelection::Auto, vectors).unwrap().notes.concat();
        assert_eq!(note(true), "keyword search only: it rained");
        assert_eq!(
            note(false),
            "keyword search only: it rained and this store has no vector index"
        );
        assert!(planned(ArmSelection::KeywordOnly, true).unwrap().notes.is_empty());
        for arms in [ArmSelection::VectorOnly, ArmSelection::Both] {
            let error = planned(arms, true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.message(), "vector search was asked for, but it rained");
        }
    }
}
