#!/bin/sh
# Runs the conformance suite's checks about vectors against Google Vector Search 2.0 in a project of
# yours. It makes collections there, which cost what Google says, and leaves them, empty: delete them
# when you are done. docs/google-vector-search.md tells the variables and what is needed.
set -eu

if [ -z "${MEMORY_TEST_GOOGLE_VECTOR_PROJECT:-}" ]; then
    echo "set MEMORY_TEST_GOOGLE_VECTOR_PROJECT to a project whose bill is yours" >&2
    exit 2
fi
: "${MEMORY_TEST_GOOGLE_VECTOR_LOCATION:=us-central1}"
: "${MEMORY_TEST_GOOGLE_VECTOR_COLLECTION:=memory-test}"
export MEMORY_TEST_GOOGLE_VECTOR_PROJECT MEMORY_TEST_GOOGLE_VECTOR_LOCATION
export MEMORY_TEST_GOOGLE_VECTOR_COLLECTION

cd "$(dirname "$0")/.."
status=0
cargo test -p memory-vector --features google --test it \
    -- --exact google::live::the_suite_passes_on_the_real_service --nocapture || status=$?

parent="projects/$MEMORY_TEST_GOOGLE_VECTOR_PROJECT/locations/$MEMORY_TEST_GOOGLE_VECTOR_LOCATION"
echo "The collections of the run are those of $parent that begin with" \
    "$MEMORY_TEST_GOOGLE_VECTOR_COLLECTION-"
echo "To list them:"
echo "  curl -H \"Authorization: Bearer \$(gcloud auth print-access-token)\" \\"
echo "    https://vectorsearch.googleapis.com/v1/$parent/collections"
exit $status
