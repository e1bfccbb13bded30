# Two targets are all that a new user needs: `make demo` and `make test`.
HOST   := $(shell rustc -vV | sed -n 's/^host: //p')
OUT    := target/$(HOST)/release/dunnage

.PHONY: build demo test check bench size install clean
# Linked at a fixed address: relocating 700 kB of pointers at each start is a tenth of the shortest run, and 0.6 MB of each
# monitor. Stack, heap and mappings stay where chance puts them.
build:
	cargo rustc --release --locked -p dunnage --bin dunnage -- -C relocation-model=static
	@ln -sf $(CURDIR)/$(OUT) target/dunnage
	@ls -lh $(OUT) | awk '{print "built " $$9 " (" $$5 ")"}'

demo: build
	@DUNNAGE=$(CURDIR)/$(OUT) sh testdata/demo/demo.sh

test:
	cargo test --locked --workspace --no-fail-fast

check:
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# One static file, under 25 MB, without the failpoints of the tests.
size: build
	@if ldd $(OUT) >/dev/null 2>&1 && ! ldd $(OUT) 2>&1 | grep -q 'statically linked'; then echo "$(OUT) is not static"; exit 1; fi
	@test $$(stat -c %s $(OUT)) -lt 25000000 || { echo "$(OUT) is larger than 25 MB"; exit 1; }
	@! grep -qa -e DUNNAGE_FAILPOINTS -e layer.rename $(OUT) || { echo "$(OUT) has failpoints"; exit 1; }

bench: build
	@DUNNAGE=$(CURDIR)/$(OUT) sh bench/rebuild.sh
	@DUNNAGE=$(CURDIR)/$(OUT) sh bench/copy-driver.sh
	@DUNNAGE=$(CURDIR)/$(OUT) sh bench/rootless.sh
	cargo build --release --locked -p dunnage-cache --example layers
	@DUNNAGE=$(CURDIR)/$(OUT) LAYERS=$(CURDIR)/$(dir $(OUT))examples/layers sh bench/layers.sh
	cargo build --release --locked -p dunnage-cache --example stat_walk
	@DUNNAGE=$(CURDIR)/$(OUT) STAT_WALK=$(CURDIR)/$(dir $(OUT))examples/stat_walk sh bench/context.sh

install: build
	install -m 0755 $(OUT) $(or $(PREFIX),/usr/local)/bin/dunnage

clean:
	cargo clean
