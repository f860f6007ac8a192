# Targets of the tests: simulator, fuzzing, lint, benchmarks. Included by the top Makefile.

SEEDS ?= 2000
SIM_JOBS ?= $(JOBS)
FUZZ_SECONDS ?= 60

# ---- the simulator: every room again, with test hooks, over simulated I/O ----
# Neither PIC nor hidden: calls within a file are inlined, and placementd's object can be joined.
SIM_CFLAGS := $(filter-out -fPIC -fvisibility=hidden,$(CFLAGS)) -fPIE -DSHARDKV_TEST_HOOKS
simobj = $(patsubst %.c,$(BUILD)/simobj/%.o,$(1))
SIM_REAL := $(wildcard common/io/uring_*.c common/io/io_uring.c common/io/fs_posix*.c)
SIM_MAINS := tests/sim/sim_main.c tests/sim/lincheck.c
SIM_BASE := $(call src,common/base)
# Rooms that the simulated world runs. io without what touches the kernel.
SIM_ROOMS := $(filter-out $(SIM_REAL),$(foreach r,lin meta wire io net wal raft,$(call src,common/$(r))))
SIM_SHARDD := $(filter-out shardd/main.c shardd/server.c $(wildcard shardd/engine_rocksdb*.c) shardd/memtable.c shardd/supervisor.c $(wildcard shardd/http*.c shardd/health*.c),$(call src,shardd))
SIM_CLIENT := $(addprefix client/,client_core.c client_conn.c client_many.c \
    client_map.c client_reply.c client_route.c client_session.c breaker.c retry.c route_cache.c \
    token.c wheel.c)
# placementd has functions of the same names as shardd: it is linked into one object of its own.
SIM_PLACEMENT := $(filter-out placementd/main.c placementd/supervisor.c $(wildcard placementd/http*.c),$(call src,placementd) $(call src,placementd/plan)) \
    tests/sim/sim_placement.c
SIM_SRC := $(filter-out $(SIM_MAINS) tests/sim/sim_placement.c,$(call src,tests/sim)) $(SIM_BASE) \
    $(SIM_ROOMS) $(SIM_SHARDD) $(SIM_CLIENT)
LIBS_sim := -lraft -lmsgpackc -lisal -ljansson -lm

$(BUILD)/simobj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  SIMCC $<"
	@$(CC) $(SIM_CFLAGS) -MMD -MP -c $< -o $@
-include $(shell find $(BUILD)/simobj -name '*.d' 2>/dev/null)

# Also what tests/unit/sim links with.
$(BUILD)/simobj/placement.o: $(call simobj,$(SIM_PLACEMENT))
	@echo "  LD -r $@"
	@$(LD) -r -o $@ $^ && objcopy --keep-global-symbol=sim_placement_start \
	    --keep-global-symbol=sim_placement_settled \
	    --keep-global-symbol=sim_placement_state \
	    --keep-global-symbol=sim_placement_rename \
	    --keep-global-symbol=sim_placement_id \
	    --keep-global-symbol=sim_placement_removed \
	    --keep-global-symbol=sim_placement_note \
	    --keep-global-symbol=cluster_find_group --keep-global-symbol=cluster_find_node \
	    --keep-global-symbol=operator_test_destroy_early \
	    --keep-global-symbol=cluster_test_any_epoch $@
$(BUILD)/lib/room_sim.a: $(call simobj,$(SIM_SRC)) $(BUILD)/simobj/placement.o
	@mkdir -p $(@D)
	@echo "  AR    $@"
	@rm -f $@ && ar rcs $@ $^

# The unit test of histories needs one library more than its room's rule links.
$(BUILD)/tests/unit/lin/test_checker_lin: -ljansson

LINCHECK_SRC := tests/sim/lincheck.c $(call src,common/lin) $(SIM_BASE)
$(BUILD)/bin/lincheck: $(call simobj,$(LINCHECK_SRC))
	$(call link,$^,$(LIBS_sim))
$(BUILD)/bin/sim: $(call simobj,tests/sim/sim_main.c) $(BUILD)/lib/room_sim.a
	$(call link,$^,$(LIBS_sim))

SCENARIOS := $(sort $(wildcard tests/sim/scenarios/*.scn))
sim_scenarios = $(foreach f,$(1),--scenario $(f))

SIM_BUGS_READS := read-moved
SIM_BUGS_LEASE := lease-no-margin
SIM_BUGS_LEVELS := follower-reads-local
SIM_BUGS_COUNT := dedupe-off rows-forgotten rows-late expiry-local-clock
SIM_OPERATORS := $(addprefix tests/sim/scenarios/full-,operators.scn moves.scn splits.scn stale.scn)

.PHONY: sim sim-bugs
sim: ## Simulate: SEEDS=n [SEED=first] [SCENARIO=file] [BUG=name] [VERBOSE=1]
sim: $(BUILD)/bin/sim
	@$< $(call sim_scenarios,$(or $(SCENARIO),$(SCENARIOS))) --jobs $(SIM_JOBS) \
	    $(if $(SEED),--seed $(SEED) --seeds $(if $(filter command line environment,$(origin SEEDS)),$(SEEDS),1),--seeds $(SEEDS)) \
	    $(if $(BUG),--bug $(BUG)) $(if $(VERBOSE),--verbose) \
	    $(if $(SEED)$(SCENARIO)$(BUG),,--list tests/sim/regressions)

# The test of the test: each planted bug must be found.
SIM_BUGS := vote-not-held ack-early read-local apply-early read-no-term keep-log fsync-lies \
    no-crc torn-always torn-never
SIM_BUGS_MERGE := merge-early
# The fault of each bug lies where operators run into each other.
SIM_BUGS_MOVES := map-goes-back tombstone-ignored freeze-ignored split-stale destroy-early
# Bugs, scenarios, seeds. Fails if one is not found (a pipe would hide that).
sim_bugs = for b in $(1); do \
    out=$$($< $(call sim_scenarios,$(2)) --jobs $(SIM_JOBS) --seeds $(3) --bug $$b); rc=$$?; \
    echo "$$out" | tail -n 1; test $$rc -eq 0 || exit 1; done
sim-bugs: ## Simulate with each planted bug: all must be found
sim-bugs: $(BUILD)/bin/sim
	@$(call sim_bugs,$(SIM_BUGS),$(filter tests/sim/scenarios/raft-%,$(SCENARIOS)),1500)
	@$(call sim_bugs,$(SIM_BUGS_MERGE),tests/sim/scenarios/full-merge.scn,300)
	@$(call sim_bugs,$(SIM_BUGS_MOVES),$(SIM_OPERATORS),1500)
	@$(call sim_bugs,$(SIM_BUGS_READS),tests/sim/scenarios/full-reads.scn,100)
	@$(call sim_bugs,$(SIM_BUGS_LEASE),tests/sim/scenarios/raft-lease.scn,400)
	@$(call sim_bugs,$(SIM_BUGS_LEVELS),tests/sim/scenarios/full-levels.scn,100)
	@$(call sim_bugs,$(SIM_BUGS_COUNT),tests/sim/scenarios/full-count.scn,100)

# ---- fuzzing: tests/fuzz/fuzz_<name>.c, found by wildcard, with tests/fuzz/corpus/<name>/ ----
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_ROOMS := raft wal net wire io meta base
FUZZ_SRC := $(foreach r,$(FUZZ_ROOMS),$(call src,common/$(r)))
# What a target needs of the rooms above: single files, for those rooms need RocksDB.
FUZZ_MORE_client := $(SIM_CLIENT)
FUZZ_MORE_command := $(addprefix shardd/,command.c apply.c dedupe.c dedupe_rows.c engine_key.c shard.c)
FUZZ_MORE_change := shardd/shard.c shardd/shard_change.c
FUZZ_CLANG := clang -std=c17 -D_GNU_SOURCE -I. -g -O1 -pthread -fsanitize=fuzzer,address,undefined
define fuzz_rule
$(BUILD)/fuzz/replay_$(1): $(call obj,tests/fuzz/fuzz_$(1).c tests/fuzz/replay.c $(FUZZ_MORE_$(1))) $(call need_ar,$(FUZZ_ROOMS))
	$$(call link,$$^,$(LIBS_common))
build/fuzz/fuzz_$(1): tests/fuzz/fuzz_$(1).c $(FUZZ_MORE_$(1)) $(FUZZ_SRC)
	@mkdir -p $$(@D)
	@echo "  FUZZ  $$@"
	@$(FUZZ_CLANG) $$^ -o $$@ $(LIBS_common)
endef
$(foreach f,$(FUZZ),$(eval $(call fuzz_rule,$(f))))

.PHONY: fuzz-replay
fuzz-replay: ## Replay the fuzz corpora
fuzz-replay: $(FUZZ:%=$(BUILD)/fuzz/replay_%)
	@for f in $(FUZZ); do $(BUILD)/fuzz/replay_$$f tests/fuzz/corpus/$$f/* || exit 1; done

.PHONY: fuzz
fuzz: ## Fuzz every decoder for FUZZ_SECONDS each (clang, libFuzzer)
fuzz: $(FUZZ:%=build/fuzz/fuzz_%)
	@for f in $(FUZZ); do echo "fuzz $$f"; mkdir -p build/fuzz/work/$$f; \
	    build/fuzz/fuzz_$$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
	        -artifact_prefix=build/fuzz/ build/fuzz/work/$$f tests/fuzz/corpus/$$f \
	        2>build/fuzz/$$f.log || { tail -n 40 build/fuzz/$$f.log; exit 1; }; done

.PHONY: lint
lint: ## Check format, include rules and shell scripts
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format --dry-run -Werror
	@tests/tidy.sh
	@shellcheck deploy/*.sh deploy/man/*.sh deploy/debian/* tests/*.sh tests/cluster/*.sh tests/deploy/*.sh

.PHONY: api-check abi-check abi-update
api-check: ## The library's header in strict C11 and C++17, its ABI against client/kvclient.abi
api-check: abi-check
	@tests/api.sh header
abi-check: $(BUILD)/lib/libkvclient.so.1
	@tests/api.sh abi-check $<
abi-update: ## Take the library's ABI as it is (only additions may be taken without a new soname)
abi-update: $(BUILD)/lib/libkvclient.so.1
	@tests/api.sh abi-update $<

.PHONY: check
check: ## Everything: unit tests, fuzz corpora, simulator (SEEDS=2000), deployment, cluster tests
check: all $(BUILD)/bin/lincheck
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory fuzz-replay
	@$(if $(filter release,$(MODE)),$(MAKE) --no-print-directory api-check)
	@$(MAKE) --no-print-directory sim
	@$(MAKE) --no-print-directory deploy-test
	@KV_BIN=$(CURDIR)/$(BUILD)/bin tests/cluster/run.sh

$(BUILD)/tests/bench/bench_limits: tests/bench/bench_limits.c
	@mkdir -p $(@D)
	@$(CC) $(STD) -O2 $(WARN) -pthread -o $@ $<
$(BUILD)/tests/bench/bench_placement: $(call obj,tests/bench/bench_placement.c) \
    $(call need_ar,placementd $(NEED_placementd))
	@mkdir -p $(@D)
	$(call link,$^,$(LIBS_common))
$(BUILD)/tests/bench/bench_planner: tests/bench/bench_planner.c $(call need_ar,placementd meta base)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -o $@ $^
.PHONY: bench
bench: ## Measure the README's table beside this machine's limits and a Redis cluster
bench: all $(BUILD)/tests/bench/bench_limits
	@deploy/deps.sh redis-server redis-tools
	@python3 tests/bench/bench.py
.PHONY: bench-placement
bench-placement: ## Measure what moves, splits, transfers and lost nodes cost (the README's second table)
bench-placement: all $(BUILD)/tests/bench/bench_placement $(BUILD)/tests/bench/bench_planner
	@python3 tests/bench/placement.py

.PHONY: bench-app
bench-app: ## Measure what applications get: exactly-once, read levels, conditions, many keys
bench-app: all
	@python3 tests/bench/bench_app.py
