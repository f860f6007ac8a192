# Targets of the tests: simulator, fuzzing, lint, benchmarks. Included by the top Makefile.

SEEDS ?= 2000
SIM_JOBS ?= $(JOBS)
FUZZ_SECONDS ?= 60

# ---- the simulator: every room again, with test hooks, over simulated I/O ----
SIM_CFLAGS := $(filter-out -fvisibility=hidden,$(CFLAGS)) -DSHARDKV_TEST_HOOKS
simobj = $(patsubst %.c,$(BUILD)/simobj/%.o,$(1))
SIM_REAL := $(wildcard common/io/uring_*.c common/io/io_uring.c common/io/fs_posix*.c)
SIM_MAINS := tests/sim/sim_main.c tests/sim/lincheck.c
SIM_BASE := $(call src,common/base)
# Rooms that the simulated world runs. io without what touches the kernel.
SIM_ROOMS := $(filter-out $(SIM_REAL),$(foreach r,meta wire io net wal raft,$(call src,common/$(r))))
SIM_SRC := $(filter-out $(SIM_MAINS),$(call src,tests/sim)) $(SIM_BASE) $(SIM_ROOMS)
LIBS_sim := -lraft -lmsgpackc -lisal -ljansson -lm

$(BUILD)/simobj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  SIMCC $<"
	@$(CC) $(SIM_CFLAGS) -MMD -MP -c $< -o $@
-include $(shell find $(BUILD)/simobj -name '*.d' 2>/dev/null)

# Also what tests/unit/sim links with.
$(BUILD)/lib/room_sim.a: $(call simobj,$(SIM_SRC))
	@mkdir -p $(@D)
	@echo "  AR    $@"
	@rm -f $@ && ar rcs $@ $^

LINCHECK_SRC := $(addprefix tests/sim/,lincheck.c history.c history_json.c checker_lin.c) $(SIM_BASE)
$(BUILD)/bin/lincheck: $(call simobj,$(LINCHECK_SRC))
	$(call link,$^,$(LIBS_sim))
$(BUILD)/bin/sim: $(call simobj,tests/sim/sim_main.c) $(BUILD)/lib/room_sim.a
	$(call link,$^,$(LIBS_sim))
