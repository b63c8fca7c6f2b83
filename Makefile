# For people: the usual words. Everything real is in CMakePresets.json, ./demo, ./check and tools/.
PREFIX ?= /usr/local

all:      ; cmake --preset release && cmake --build --preset release
demo:     ; ./demo
check:    ; ./check
bench: all; bench/side-by-side
bars: all ; bench/bars
install: all; DESTDIR=$(DESTDIR) cmake --install build/release --prefix $(PREFIX)
lint: all ; tools/lint
format:   ; find include src tests fuzz bench -name '*.[ch]' -print0 | xargs -0 clang-format -i
clean:    ; rm -rf build
.PHONY: all demo check bench bars install lint format clean
