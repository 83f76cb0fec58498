# What one does with a checkout of Drover. `make help` lists it.
# Everything built goes to $(CARGO_TARGET_DIR), or target/ where that is not set.

CARGO ?= cargo
ARGS ?=
KILLS ?= 100
SERVERS ?= elasticsearch-7 elasticsearch-8 elasticsearch-9 opensearch-2 opensearch-3
export DROVER_TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)

.PHONY: help demo test test-servers storm check cross bench fuzz setup install clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do \
		printf '  make %-13s %s\n' "$$name" "$$what"; done

demo: ## a factory, a master and four devices on this machine (ARGS=--once ends by itself)
	@demo/run $(ARGS)

test: setup ## installs what the tests need and runs all of them
	$(CARGO) build --locked --workspace --bins
	tests/parts/arm-minion
	$(CARGO) test --locked --workspace

test-servers: setup ## the bridge's tests against Elasticsearch 7, 8 and 9 and OpenSearch 2 and 3
	tests/parts/search install $(SERVERS) >/dev/null
	$(CARGO) build --locked --workspace --bins
	for server in $(SERVERS); do \
		DROVER_LONG=1 DROVER_SEARCH_KINDS="$$server" \
			$(CARGO) test --locked --package drover-tests --test search || exit 1; \
	done

storm: setup ## kill -9 of master and search server 100 times (KILLS=1000) under load, then every event is counted
	$(CARGO) build --locked --workspace --bins
	DROVER_STORM=$(KILLS) $(CARGO) test --locked --package drover-tests --test search storm -- --nocapture

check: ## formatting, lints and documentation, as the tests' recipe does before the tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

cross: ## minion and master for aarch64, armv7 and musl, stripped, in dist/
	packaging/cross

bench: ## every budget beside what is measured here
	$(CARGO) build --locked --release --workspace --bins
	$(CARGO) build --locked --profile device --package drover-minion
	$(CARGO) bench --locked --workspace

fuzz: ## each fuzz target for a minute (ARGS="manifest csr" for those alone, FUZZ_SECONDS=600 for longer)
	@fuzz/run $(ARGS)

setup: ## the real parts that tests and demo use: Docker Engine, registry, Elasticsearch, OpenSearch, brokers
	tests/parts/install
	tests/parts/search install elasticsearch-8 opensearch-2 >/dev/null
	tests/parts/lumberjack build >/dev/null
	tests/parts/rsyslog build >/dev/null

install: ## the programs, into /usr/local/bin or PREFIX/bin
	$(CARGO) build --locked --release --workspace --bins
	install -d $(DESTDIR)$(or $(PREFIX),/usr/local)/bin
	install $(addprefix $(DROVER_TARGET)/release/,drover drover-master drover-minion drover-enrol) \
		$(DESTDIR)$(or $(PREFIX),/usr/local)/bin

clean: ## what was built
	$(CARGO) clean
