"""Logits of the peer engine (llama.cpp), through its shared library, on the token ids that Serin gets.

The library's folder is named by PEERS_LIB, or is found beside the programs in PEERS_BIN. Its structs grow
from release to release, so only their stable beginnings are touched: parameters are taken from the library's
own default functions in a buffer larger than any of them, and passed on.

    python tests/tools/peer_logits.py MODEL.gguf --tokens FILE.json --out logits.npy [--threads 2] [--f32]
"""
import argparse
import ctypes
import glob
import json
import os
import sys
import time

import numpy as np

import oracle

MODEL_PARAMS_BYTES = CONTEXT_PARAMS_BYTES = 1024  # both structs are smaller than 200 bytes today


class Opaque(ctypes.Structure):
    """A struct that is passed by value through memory, whatever is in it."""
    _fields_ = [("words", ctypes.c_uint32 * (CONTEXT_PARAMS_BYTES // 4))]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)),
                ("embd", ctypes.c_void_p), ("pos", ctypes.POINTER(ctypes.c_int32)),
                ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


def find_library():
    """The path of libllama.so, or None."""
    folders = [os.environ.get("PEERS_LIB")]
    programs = os.environ.get("PEERS_BIN")
    if programs:
        folders += [programs, os.path.join(programs, "..", "lib")]
    for folder in filter(None, folders):
        path = os.path.join(folder, "libllama.so")
        if os.path.exists(path):
            return path
    return None


class Peer:
    """A model loaded by the peer, with one context of up to ctx tokens."""

    def __init__(self, library, path, ctx, threads=2, f32_cache=False):
        folder = os.path.dirname(os.path.abspath(library))
        for name in ("libggml-base.so", "libggml-cpu*.so", "libggml.so"):
            for dependency in sorted(glob.glob(os.path.join(folder, name))):
                ctypes.CDLL(dependency, mode=ctypes.RTLD_GLOBAL)
        self.lib = lib = ctypes.CDLL(library)
        for name, result, arguments in (
                ("llama_model_default_params", Opaque, []),
                ("llama_context_default_params", Opaque, []),
                ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Opaque]),
                ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, Opaque]),
                ("llama_set_n_threads", None, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]),
                ("llama_model_get_vocab", ctypes.c_void_p, [ctypes.c_void_p]),
                ("llama_vocab_n_tokens", ctypes.c_int32, [ctypes.c_void_p]),
                ("llama_batch_init", Batch, [ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]),
                ("llama_batch_free", None, [Batch]),
                ("llama_get_memory", ctypes.c_void_p, [ctypes.c_void_p]),
                ("llama_memory_clear", None, [ctypes.c_void_p, ctypes.c_bool]),
                ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, Batch]),
                ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p, ctypes.c_int32]),
                ("llama_free", None, [ctypes.c_void_p]), ("llama_model_free", None, [ctypes.c_void_p]),
                ("llama_backend_init", None, []), ("llama_log_set", None, [ctypes.c_void_p, ctypes.c_void_p])):
            f = getattr(lib, name)
            f.restype, f.argtypes = result, arguments
        self.silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        lib.llama_log_set(ctypes.cast(self.silent, ctypes.c_void_p), None)
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"{path}: the peer does not load it")
        params = lib.llama_context_default_params()
        params.words[0] = params.words[1] = params.words[2] = ctx  # n_ctx, n_batch, n_ubatch
        if f32_cache:
            self.set_f32_cache(params)
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit(f"{path}: the peer cannot make a context of {ctx} tokens")
        lib.llama_set_n_threads(self.context, threads, threads)
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))

    @staticmethod
    def set_f32_cache(params):
        """type_k and type_v are the only neighbouring enums that are both 1 (f16) by default; 0 is f32."""
        words = list(params.words)
        pairs = [i for i in range(8, 40) if words[i] == 1 and words[i + 1] == 1]
        if len(pairs) != 1:
            raise SystemExit("the peer's context parameters are not laid out as this script knows them")
        params.words[pairs[0]] = params.words[pairs[0] + 1] = 0

    def logits(self, tokens):
        """float32 [len(tokens), vocabulary] of one context; the array is reused by the next call."""
        lib, n = self.lib, len(tokens)
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        batch = lib.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        status = lib.llama_decode(self.context, batch)
        lib.llama_batch_free(batch)
        if status:
            raise SystemExit(f"the peer's decode failed with {status}")
        first = lib.llama_get_logits_ith(self.context, 0)
        return np.ctypeslib.as_array(first, (n, self.vocab))

    def close(self):
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model")
    p.add_argument("--tokens", required=True, help="a JSON array of token ids, or an array of arrays")
    p.add_argument("--out", required=True, help="the .npy file to write, float32 [tokens, vocabulary]")
    p.add_argument("--window", type=int, default=512, help="tokens per context (512)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--f32", action="store_true", help="keep the cache in f32 instead of the default f16")
    a = p.parse_args()
    library = find_library()
    if not library:
        print("no peer: set PEERS_LIB to the folder that holds libllama.so", file=sys.stderr)
        raise SystemExit(3)
    with open(a.tokens) as f:
        windows = oracle.contexts(json.load(f), a.window)
    peer = Peer(library, a.model, max(map(len, windows)), a.threads, a.f32)
    out = np.lib.format.open_memmap(a.out, "w+", np.float32, (sum(map(len, windows)), peer.vocab))
    done, start = 0, time.monotonic()
    for window in windows:
        out[done:done + len(window)] = peer.logits(window)
        done += len(window)
    out.flush()
    print(f"{done} tokens in {time.monotonic() - start:.1f} s", file=sys.stderr)
    peer.close()


if __name__ == "__main__":
    main()
