# Installing and packaging. Included by the top Makefile.

LIBDIR     ?= $(PREFIX)/lib
SYSCONFDIR ?= /etc/shardkv
MANDIR     ?= $(PREFIX)/share/man
UNITDIR    ?= $(PREFIX)/lib/systemd/system
# The moment that files of packages and pages carry: that of the sources, so that the same sources
# give the same bytes.
EPOCH       = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || date -r LICENSE +%s))
VERSION    := $(shell sed -n 's/^\#define SHARDKV_VERSION "\(.*\)"/\1/p' common/base/version.h)

# Man pages: deploy/man/<name>.<section>.scd. The page of the settings is made of the samples.
MAN := $(patsubst deploy/man/%.scd,$(BUILD)/man/%,$(sort $(wildcard deploy/man/*.scd))) \
    $(addprefix $(BUILD)/man/,shardkv.toml.5 kvctl.1 kvbench.1)
scdoc = mkdir -p $(@D) && SOURCE_DATE_EPOCH=$(EPOCH) scdoc <$(1) >$@ || { rm -f $@; exit 1; }
# The pages of kvctl and kvbench come from their own help, the settings' from the samples.
$(BUILD)/man/shardkv.toml.5: deploy/man/settings.sh deploy/config/shardd.toml deploy/config/placementd.toml
	@mkdir -p $(@D) && $^ >$@.scd && $(call scdoc,$@.scd)
$(BUILD)/man/%.1: deploy/man/%.sh $(BUILD)/bin/%
	@mkdir -p $(@D) && $^ >$@.scd && $(call scdoc,$@.scd)
$(BUILD)/man/%: deploy/man/%.scd
	@$(call scdoc,$<)

.PHONY: man
man: ## Make the man pages
man: $(MAN)

UNITS := $(patsubst deploy/systemd/%.in,%,$(wildcard deploy/systemd/*.service.in))
put = install -m $(1) $(2) $(DESTDIR)$(3)
render = sed 's|@BINDIR@|$(PREFIX)/bin|g; s|@SYSCONFDIR@|$(SYSCONFDIR)|g' deploy/systemd/$(1).in \
    >$(DESTDIR)$(UNITDIR)/$(1) && chmod 644 $(DESTDIR)$(UNITDIR)/$(1) &&
manual = $(call put,644,$(2),$(MANDIR)/man$(1))

.PHONY: install
install: ## Install programs, library, units, settings, man pages (DESTDIR=, PREFIX=, SYSCONFDIR=)
install: all man
	install -d $(addprefix $(DESTDIR),$(PREFIX)/bin $(PREFIX)/include $(LIBDIR)/pkgconfig $(UNITDIR) \
	    $(PREFIX)/lib/sysusers.d $(PREFIX)/lib/tmpfiles.d $(PREFIX)/share/shardkv/prometheus \
	    $(SYSCONFDIR) $(foreach s,1 3 5 8,$(MANDIR)/man$(s)))
	$(call put,755,$(PROGRAMS),$(PREFIX)/bin)
	$(call put,644,$(BUILD)/lib/libkvclient.so.1,$(LIBDIR))
	ln -sf libkvclient.so.1 $(DESTDIR)$(LIBDIR)/libkvclient.so
	$(call put,644,$(BUILD)/lib/libkvclient.a,$(LIBDIR))
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' client/kvclient.pc.in \
	    >$(DESTDIR)$(LIBDIR)/pkgconfig/kvclient.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/kvclient.pc
	$(call put,644,client/kvclient.h,$(PREFIX)/include)
	@echo "units: $(UNITS) shardkv.target"
	@$(foreach u,$(UNITS),$(call render,$(u))) true
	$(call put,644,deploy/systemd/shardkv.target,$(UNITDIR))
	$(call put,644,deploy/systemd/sysusers.conf,$(PREFIX)/lib/sysusers.d/shardkv.conf)
	$(call put,644,deploy/systemd/tmpfiles.conf,$(PREFIX)/lib/tmpfiles.d/shardkv.conf)
	$(call put,644,deploy/prometheus/shardkv.rules.yml,$(PREFIX)/share/shardkv/prometheus)
	@for f in shardd placementd; do t=$(DESTDIR)$(SYSCONFDIR)/$$f.toml; \
	    test -e $$t && echo "$$t is kept" || install -v -m 644 deploy/config/$$f.toml $$t; done
	$(foreach s,1 3 5 8,$(if $(filter %.$(s),$(MAN)),$(call manual,$(s),$(filter %.$(s),$(MAN))) &&)) true

.PHONY: deb
deb: ## Make Debian packages in build/deb: server, tools, library, development files
deb: all man
	@deploy/deb.sh $(BUILD) $(VERSION)

.PHONY: deploy-test
deploy-test: ## Test units, samples, packages, man pages and what the daemons tell their supervisors
deploy-test: all
	@KV_BIN=$(CURDIR)/$(BUILD)/bin tests/deploy/run.sh
