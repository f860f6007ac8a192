# shardkv. `make help` lists the targets; MODE=release|debug|asan|tsan selects the build.

MODE ?= release
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
BUILD := $(if $(filter release,$(MODE)),build,build/$(MODE))
CC ?= gcc

STD      := -std=c17 -D_GNU_SOURCE -I.
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
CFLAGS_release := -O2 -g -fno-omit-frame-pointer
CFLAGS_debug   := -O0 -g3
CFLAGS_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
CFLAGS_tsan    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
EXTRA_CFLAGS ?=
CFLAGS   := $(STD) $(WARN) -fPIC -fvisibility=hidden -pthread $(CFLAGS_$(MODE)) $(EXTRA_CFLAGS)
LDFLAGS  := -pthread -Wl,--as-needed $(CFLAGS_$(MODE))

LIBS_common  := -lraft -luring -lmsgpackc -lisal -lmicrohttpd -lsystemd
LIBS_shardd  := -lrocksdb $(LIBS_common)
LIBS_client  := -lmsgpackc -lisal
LIBS_ctl     := -lsmartcols -ljansson -ledit
LIBS_check   := $(shell pkg-config --libs check 2>/dev/null)

# ---- sources: found by wildcard, one archive a room ----
ROOMS := base lin meta wire io net wal raft http notify
src = $(sort $(wildcard $(1)/*.c))
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
ar  = $(BUILD)/lib/room_$(1).a

SRC_shardd     := $(filter-out shardd/main.c,$(call src,shardd))
SRC_placementd := $(filter-out placementd/main.c,$(call src,placementd) $(call src,placementd/plan))
SRC_client     := $(call src,client)
SRC_ctl        := $(filter-out client/ctl/main.c,$(call src,client/ctl))

# What each room may link (the order of design: later rooms may use earlier ones).
NEED_base :=
NEED_lin := base
NEED_meta := base
NEED_wire := meta base
NEED_io   := base
NEED_net  := wire io meta base
NEED_wal  := io base
NEED_raft := wal net wire io meta base
NEED_http := io wire meta base
NEED_notify :=
NEED_shardd := http notify raft $(NEED_raft)
NEED_placementd := http notify raft $(NEED_raft)
NEED_client := wire meta base
NEED_ctl := client lin $(NEED_client)
ALL_ROOMS := $(ROOMS) shardd placementd client ctl

PROGRAMS := $(addprefix $(BUILD)/bin/,shardd placementd kvctl kvbench)

.PHONY: all
all: ## Build the programs and libraries into build/
all: $(PROGRAMS) libs examples

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | column -t -s '#'
	@echo "  MODE=release|debug|asan|tsan selects the build (release in build/, others in build/MODE)"

# libraft before 0.22 has safety bugs (common/raft/README.md): refuse it at build time.
$(BUILD)/raft-version:
	@mkdir -p $(@D)
	@pkg-config --atleast-version=0.22 raft || { \
	    echo "libraft >= 0.22 is needed: run 'make deps'" >&2; exit 1; }
	@touch $@

$(BUILD)/obj/%.o: %.c | $(BUILD)/raft-version
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

define room_rule
$(call ar,$(1)): $(call obj,$(2))
	@mkdir -p $$(@D)
	@echo "  AR    $$@"
	@rm -f $$@ && $(if $(strip $(2)),ar rcs $$@ $$^,ar rcs $$@)
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r),$(call src,common/$(r)))))
$(eval $(call room_rule,shardd,$(SRC_shardd)))
$(eval $(call room_rule,placementd,$(SRC_placementd)))
$(eval $(call room_rule,client,$(SRC_client)))
$(eval $(call room_rule,ctl,$(SRC_ctl)))
need_ar = $(foreach r,$(1),$(call ar,$(r)))

link = @mkdir -p $(@D); echo "  LD    $@"; $(CC) $(LDFLAGS) -o $@ $(1) $(2)

$(BUILD)/bin/shardd: $(call obj,shardd/main.c) $(call need_ar,shardd $(NEED_shardd))
	$(call link,$^,$(LIBS_shardd))
$(BUILD)/bin/placementd: $(call obj,placementd/main.c) $(call need_ar,placementd $(NEED_placementd))
	$(call link,$^,$(LIBS_common))
$(BUILD)/bin/kvctl: $(call obj,client/ctl/main.c) $(call need_ar,ctl $(NEED_ctl))
	$(call link,$^,$(LIBS_client) $(LIBS_ctl))
# Of ctl it takes playground_file alone.
$(BUILD)/bin/kvbench: $(call obj,$(call src,client/bench)) $(call need_ar,ctl client $(NEED_client))
	$(call link,$^,$(LIBS_client) -ljansson)

# ---- client library ----
CLIENT_OBJS := $(call obj,$(SRC_client) $(foreach r,$(NEED_client),$(call src,common/$(r))))
.PHONY: libs
libs: $(BUILD)/lib/libkvclient.so.1 $(BUILD)/lib/libkvclient.a $(BUILD)/lib/kvclient.pc
$(BUILD)/lib/libkvclient.so.1: $(CLIENT_OBJS) client/kvclient.map
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(LDFLAGS) -shared -Wl,-soname,libkvclient.so.1 -Wl,--version-script,client/kvclient.map \
	    -o $@ $(CLIENT_OBJS) $(LIBS_client)
	@ln -sf libkvclient.so.1 $(BUILD)/lib/libkvclient.so
$(BUILD)/lib/libkvclient.a: $(CLIENT_OBJS)
	@mkdir -p $(@D)
	@echo "  AR    $@"
	@rm -f $@ && ar rcs $@ $^

$(BUILD)/lib/kvclient.pc: client/kvclient.pc.in
	@mkdir -p $(@D)
	@sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' $< > $@

# Examples, as an application builds them: the public header, the shared library, strict C11. That of
# libuv only where libuv is.
EXAMPLES := $(patsubst client/examples/%.c,$(BUILD)/examples/%, \
    $(filter-out $(if $(shell pkg-config --exists libuv && echo y),,%/libuv.c),$(call src,client/examples)))
.PHONY: examples
examples: $(EXAMPLES)
$(BUILD)/examples/%: client/examples/%.c client/kvclient.h $(BUILD)/lib/libkvclient.so.1
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) -std=c11 -D_DEFAULT_SOURCE -pedantic -Wall -Wextra -Werror $(CFLAGS_$(MODE)) -Iclient $< -o $@ \
	    -L$(BUILD)/lib -lkvclient -Wl,-rpath,'$$ORIGIN/../lib' $(if $(findstring libuv,$<),$(shell pkg-config --libs libuv))

# ---- unit tests: tests/unit/<room>/test_<stem>.c, one Check binary a file ----
UNIT_SRC := $(sort $(wildcard tests/unit/*/test_*.c))
UNIT_BIN := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC))
TESTLIB_SRC := $(call src,tests/lib)
TESTLIB := $(BUILD)/lib/testlib.a
$(TESTLIB): $(call obj,$(TESTLIB_SRC))
	@mkdir -p $(@D)
	@rm -f $@ && ar rcs $@ $^
room_of = $(word 3,$(subst /, ,$(1)))
# It looks at kvbench's options, too, which are linked after the archive that they need.
$(BUILD)/tests/unit/ctl/test_playground_file: $(call obj,client/bench/options.c)
$(BUILD)/tests/unit/ctl/test_playground_file: private LDFLAGS += -Wl,--undefined=kv_version
define unit_rule
$(BUILD)/$(patsubst %.c,%,$(1)): $(call obj,$(1)) $(call need_ar,$(call room_of,$(1)) $(NEED_$(call room_of,$(1)))) $(if $(TESTLIB_SRC),$(TESTLIB))
	$$(call link,$$^,$(LIBS_check) $(if $(filter shardd,$(call room_of,$(1))),$(LIBS_shardd),$(LIBS_common)) $(if $(filter ctl,$(call room_of,$(1))),$(LIBS_ctl)))
endef
$(foreach t,$(UNIT_SRC),$(eval $(call unit_rule,$(t))))

.PHONY: unit
unit: ## Build and run the unit tests
unit: $(UNIT_BIN)
	@tests/run-unit.sh $(UNIT_BIN)

# ---- the rest of the targets lives beside what it runs ----
-include tests/tests.mk

.PHONY: quickstart
quickstart: ## Install what is missing, build, start a local cluster and use it
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@KVCTL=$(BUILD)/bin/kvctl deploy/quickstart.sh

-include deploy/deploy.mk

.PHONY: deps
deps: ## Install what is missing (Debian packages; root or sudo)
	@deploy/deps.sh

.PHONY: fmt
fmt: ## Format all C sources
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

.PHONY: clean
clean: ## Remove build/
	@rm -rf build

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
