# libmio: one Makefile for GNU make, by hand. configure writes config.mk (and, outside the source tree, a Makefile that
# includes this one); everything built lies in build/ below the directory where make runs. `make help` names the goals.
#
# Order of this file: configuration, library, programs, tests, installation and distribution (tools/build-aux/install.mk),
# cleaning.

ifneq ($(origin srcdir),file)
srcdir := .
endif
B := build

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
dry_run := $(findstring n,$(firstword -$(MAKEFLAGS)))
MAKEFLAGS += --no-builtin-rules

# THESE is a list for a make of our own below: one goal says less than many that are up to date.
.PHONY: all lib examples tools programs these help
all: lib tools
these: $(THESE)
lib examples tools programs these:
	@:

# What is quiet by default; V=1 shows each command.
ifeq ($(V),1)
say = @:
Q :=
else
say = @printf '  %-5s %s\n' '$(1)' '$(patsubst $(srcdir)/%,%,$(2))'
Q := @
endif

# ---------------------------------------------------------------------------------------------- configuration

# These goals work without config.mk. Those of $(setup) install first what they lack.
unconfigured := clean distclean dist help
setup := check check-% fuzz demo bench coverage distcheck mutations kernels soak
goals := $(or $(MAKECMDGOALS),all)

PACKAGE_VERSION := 0
SOVERSION := none

# The set-up is done while this file is read, so that a failure is told in its own line and nothing else is tried.
set_up = $(shell ( $(1) ) >&2)$(if $(filter-out 0,$(.SHELLSTATUS)),$(error the set-up failed, nothing was built))

ifneq ($(filter-out $(unconfigured),$(goals)),)
ifneq ($(and $(filter $(setup),$(goals)),$(if $(dry_run),,yes)),)
bootstrap_level := $(or $(if $(filter kernels check-kernels,$(goals)),--kernels),$(if $(filter check-more check-deb check-cross,$(goals)),--more), \
	$(if $(filter-out demo bench soak,$(filter $(setup),$(goals))),--check),$(if $(filter soak,$(goals)),--soak),--build)
$(call set_up,$(srcdir)/tools/bootstrap $(strip $(bootstrap_level)))
endif
ifeq ($(wildcard config.mk),)
$(call set_up,echo "not configured yet: running $(srcdir)/configure with default options" && $(srcdir)/configure -q)
endif
include config.mk

config.mk: $(srcdir)/configure $(srcdir)/config.mk.in
	@echo "configure is newer than config.mk: configuring again"
	@./config.status -q --recheck >/dev/null && ./config.status -q

# Objects are built anew when the flags change.
flags_now := $(CXX)|$(CC)|$(CPPFLAGS)|$(CXXFLAGS)|$(CFLAGS)|$(LDFLAGS)|$(LIBS)|$(MIO_DEFINES)|$(MIO_CXXFLAGS)|$(MIO_WARNINGS)|$(MIO_WERROR)|$(MIO_SANITIZE)|$(COVERAGE)
ifneq ($(flags_now),$(if $(wildcard $(B)/flags),$(shell cat $(B)/flags)))
$(shell mkdir -p $(B))
$(file >$(B)/flags,$(flags_now))
endif
endif
$(B)/flags: ;

# ---------------------------------------------------------------------------------------------------- library

lib_sources := $(patsubst $(srcdir)/%,%,$(sort $(wildcard $(srcdir)/lib/*/*.cc)))
# A build has Linux's ways of asking the kernel or those of kqueue.
linux_sources := lib/base/sys_linux.cc lib/backend/epoll.cc lib/backend/wake.cc $(filter lib/backend/uring%,$(lib_sources))
kqueue_sources := lib/base/sys_bsd.cc lib/backend/kqueue.cc
lib_sources := $(filter-out $(if $(filter 1,$(libmio_HAVE_KQUEUE)),$(linux_sources),$(kqueue_sources)),$(lib_sources))
ifeq ($(libmio_HAVE_URING),0)
lib_sources := $(filter-out lib/backend/uring%,$(lib_sources))
endif
lib_objects := $(lib_sources:%.cc=$(B)/obj/%.o)
public_headers := $(patsubst $(srcdir)/%,%,$(sort $(wildcard $(srcdir)/include/*.h $(srcdir)/include/mio/*.h $(srcdir)/include/mio/adapters/*.h)))

static_library := $(B)/libmio.a
ifeq ($(filter yes,$(MIO_DYLIB)),)
so_name := libmio.so
soname := $(so_name).$(SOVERSION)
so_file := $(so_name).$(PACKAGE_VERSION)
else
so_name := libmio.dylib
soname := libmio.$(SOVERSION).dylib
so_file := libmio.$(PACKAGE_VERSION).dylib
endif
shared_library := $(B)/$(so_file)

# C++ without its run-time library is linked by the C compiler. Sanitizers bring symbols that nobody defines.
# nodelete: a thread's exit runs code of ours, also after a dlclose(3).
lib_ldflags = -shared -Wl,-soname,$(soname) -Wl,--version-script=$(srcdir)/lib/libmio.map -Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete \
	-Wl,-z,noexecstack $(if $(MIO_SANITIZE),,-Wl,-z,defs) -pthread
ifeq ($(MIO_DYLIB),yes)
lib_ldflags = -dynamiclib -install_name $(libdir)/$(soname) -pthread
endif

depend = -MMD -MP
compile = $(CXX) $(1) $(CPPFLAGS) $(CXXFLAGS) $(MIO_SANITIZE) $(depend) -c -o $@ $<
lib_flags = -I$(srcdir)/include -I$(srcdir)/lib $(MIO_DEFINES) $(MIO_CXXFLAGS) $(MIO_WARNINGS) $(MIO_WERROR) $(COVERAGE) -pthread

lib: $(static_library) $(shared_library) $(B)/$(soname) $(B)/$(so_name)

$(B)/obj/lib/%.o: $(srcdir)/lib/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(lib_flags))

$(static_library): $(lib_objects)
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(lib_objects)

$(shared_library): $(lib_objects) $(srcdir)/lib/libmio.map
	$(call say,LINK,$@)
	$(Q)$(CC) $(lib_ldflags) $(CFLAGS) $(MIO_SANITIZE) $(LDFLAGS) -o $@ $(lib_objects) $(LIBS)

$(B)/$(soname) $(B)/$(so_name): $(shared_library)
	@ln -sf $(<F) $@

# --------------------------------------------------------------------------------------------------- programs

example_sources := $(sort $(wildcard $(srcdir)/examples/*.cc $(srcdir)/examples/*.c $(srcdir)/examples/c/*.c))
# These take libraries of other people's: where they are not, neither are the examples.
have_glib := $(if $(filter yes,$(CROSS_COMPILING)),,$(shell $(or $(PKG_CONFIG),pkg-config) --exists glib-2.0 2>/dev/null && echo yes))
have_http_parser := $(shell $(CXX) $(CPPFLAGS) -E -x c++ -include http_parser.h /dev/null >/dev/null 2>&1 && echo yes)
example_sources := $(filter-out $(if $(have_glib),,%/embed_glib.cc) $(if $(have_http_parser),,%/http_server.cc) \
	$(if $(filter 1,$(libmio_HAVE_KQUEUE)),%/embed_foreign.cc),$(example_sources))
examples := $(patsubst $(srcdir)/examples/%,$(B)/examples/%,$(basename $(example_sources)))
load_sources := $(sort $(wildcard $(srcdir)/tools/load/*.cc))
info_sources := $(sort $(wildcard $(srcdir)/tools/info/*.cc))
top_sources := $(sort $(wildcard $(srcdir)/tools/top/*.cc))
bench_sources := $(sort $(wildcard $(srcdir)/tools/bench/*.cc))
load := $(if $(load_sources),$(B)/bin/mio-load)
info_tool := $(if $(info_sources),$(B)/bin/mio-info)
top_tool := $(if $(top_sources),$(B)/bin/mio-top)
installed_tools := $(strip $(load) $(info_tool) $(top_tool))
bench := $(if $(bench_sources),$(B)/bin/mio-bench)

# Programs see what a user sees: the public headers and libmio.a. mio-bench measures the bare timing wheel as well.
program_warnings = -Wall -Wextra -Wpedantic -Wshadow $(MIO_WERROR)
program_flags = -std=c++17 -I$(srcdir)/include $(program_warnings) -pthread
link_program = $(CXX) $(CXXFLAGS) $(MIO_SANITIZE) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(1) -pthread $(LIBS)

objects = $(patsubst $(srcdir)/%,$(B)/obj/%.o,$(basename $(1)))

examples: $(examples)
tools: $(installed_tools)
programs: $(examples) $(installed_tools) $(bench)

$(B)/obj/examples/%.o: $(srcdir)/examples/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(program_flags))

$(B)/obj/examples/%.o: $(srcdir)/examples/%.c $(B)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -I$(srcdir)/include $(program_warnings) -pthread $(CPPFLAGS) $(CFLAGS) $(MIO_SANITIZE) $(depend) -c -o $@ $<

$(B)/obj/tools/%.o: $(srcdir)/tools/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(program_flags) -I$(srcdir)/tools)

$(B)/obj/tools/bench/%.o: program_flags += -I$(srcdir)/lib $(if $(filter yes,$(HAVE_LIBURING)),-DBENCH_LIBURING)

$(B)/examples/%: $(B)/obj/examples/%.o $(static_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(link_program)

$(B)/obj/examples/embed_glib.o: private program_flags += $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags glib-2.0))
$(B)/examples/embed_glib: private LIBS += $(shell $(PKG_CONFIG) --libs glib-2.0)
$(B)/examples/http_server: private LIBS += -lhttp_parser
# C programs are linked by the C compiler: nothing of the C++ library is needed.
$(B)/examples/c/%: $(B)/obj/examples/c/%.o $(static_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(MIO_SANITIZE) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) -pthread $(LIBS)

$(B)/bin/mio-load: $(call objects,$(load_sources)) $(static_library)
$(B)/bin/mio-info: $(call objects,$(info_sources)) $(static_library)
$(B)/bin/mio-top: $(call objects,$(top_sources)) $(static_library)
$(B)/bin/mio-bench: $(call objects,$(bench_sources)) $(static_library)
$(B)/bin/mio-bench: private LIBS += $(if $(filter yes,$(HAVE_LIBURING)),-luring)
$(B)/bin/%:
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(link_program)

# ------------------------------------------------------------------------------------------------ manual pages

# Of section 3 from the headers, the others from man/: tools/make-man says how.
man_pages := $(B)/man/made
man_sources := $(srcdir)/tools/make-man $(srcdir)/tools/build-aux/man.awk $(srcdir)/tools/build-aux/man-roff.awk $(srcdir)/configure.ac $(srcdir)/README.md \
	$(addprefix $(srcdir)/,$(public_headers)) $(wildcard $(srcdir)/include/mio/adapters/*.h $(srcdir)/man/*.in \
	$(srcdir)/docs/*.md $(srcdir)/examples/*.c $(srcdir)/examples/*.cc)

.PHONY: man
man: $(man_pages)
$(man_pages): $(man_sources)
	$(call say,MAN,$(@D))
	@mkdir -p $(@D)
	$(Q)$(srcdir)/tools/make-man $(srcdir) $(@D)
	@touch $@

# ------------------------------------------------------------------------------------------------------ tests

BACKENDS := $(if $(filter 1,$(libmio_HAVE_URING)),io_uring) epoll sim

# Seconds that one suite may take: several times what it takes beside other work. Only one that hangs is meant to see them.
TEST_TIMEOUT = $(if $(MIO_SANITIZE),2700,900)

api_sources := $(sort $(wildcard $(srcdir)/tests/api/*.cc))
unit_sources := $(sort $(wildcard $(srcdir)/tests/unit/test_*.cc))
support_sources := $(sort $(wildcard $(srcdir)/tests/support/*.cc))
torture_sources := $(sort $(wildcard $(srcdir)/tests/torture/*.cc))
kernel_sources := $(sort $(wildcard $(srcdir)/tests/kernel/*.cc))
inject_sources := $(sort $(wildcard $(srcdir)/tests/inject/*.cc))
api := $(if $(api_sources),$(B)/tests/api)
unit := $(patsubst $(srcdir)/tests/%.cc,$(B)/tests/%,$(unit_sources))
support := $(if $(support_sources),$(B)/tests/support.a)
torture := $(if $(torture_sources),$(B)/tests/torture)
kernel := $(if $(kernel_sources),$(B)/tests/kernel)
inject := $(if $(inject_sources),$(B)/tests/inject)

# An archive: of the support code, each program takes what it uses. Only the unit tests and the support code see lib/.
test_flags = -std=c++17 -I$(srcdir)/include -I$(srcdir)/tests $(MIO_DEFINES) -Wall -Wextra -Wshadow $(MIO_TEST_CXXFLAGS) \
	$(MIO_WERROR) -pthread
pkg_config = $(shell $(PKG_CONFIG) $(1))

$(B)/obj/tests/api/%.o: $(srcdir)/tests/api/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags) $(call pkg_config,--cflags check))

$(B)/obj/tests/unit/%.o: $(srcdir)/tests/unit/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags) -I$(srcdir)/lib $(call pkg_config,--cflags cmocka))

$(B)/obj/tests/support/%.o: $(srcdir)/tests/support/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags) -I$(srcdir)/lib $(call pkg_config,--cflags check cmocka))

$(B)/obj/tests/torture/%.o: $(srcdir)/tests/torture/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags))

$(B)/obj/tests/kernel/%.o: $(srcdir)/tests/kernel/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags))

$(B)/obj/tests/inject/%.o: $(srcdir)/tests/inject/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags) -I$(srcdir)/lib $(call pkg_config,--cflags check))

$(B)/tests/support.a: $(call objects,$(support_sources))
	$(call say,AR,$@)
	@mkdir -p $(@D) && rm -f $@
	$(Q)$(AR) rcs $@ $^

$(B)/tests/api: $(call objects,$(api_sources)) $(support) $(static_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call link_program,$(call pkg_config,--libs check))

# The API suite's tests, what they call of the library and the system replaced; and the library, its tables replaced.
$(B)/tests/inject.tests.o: $(call objects,$(filter-out %/main.cc,$(api_sources))) $(srcdir)/tests/inject/wrapped
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) -r -nostdlib -o $@ -Wl,@$(srcdir)/tests/inject/wrapped $(filter %.o,$^)

$(B)/tests/inject: $(call objects,$(inject_sources)) $(B)/tests/inject.tests.o $(support) $(static_library)
	$(call say,LINK,$@)
	$(Q)$(call link_program,-Wl$(comma)--wrap=_ZN3mio8sys_realE -Wl$(comma)--wrap=_ZN3mio7sys_simE $(call pkg_config,--libs check))

$(B)/tests/torture: $(call objects,$(torture_sources)) $(static_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(link_program)

$(B)/tests/kernel: $(call objects,$(kernel_sources)) $(static_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(link_program)

# For machines on which nothing else is: tests/kernel/boot/run. The linker's warnings are of parts of the C library that
# load others, which no test calls there.
boot := $(addprefix $(B)/boot/,init api kernel torture mio-info)
boot_sources := $(sort $(wildcard $(srcdir)/tests/kernel/boot/*.cc))
link_static = $(CXX) $(CXXFLAGS) $(LDFLAGS) -static -o $@ $(filter %.o %.a,$^) $(1) -pthread $(LIBS) 2>$@.log || \
	{ cat $@.log; exit 1; }

$(B)/boot/init: $(B)/obj/tests/kernel/boot/init.o
$(B)/boot/api: $(call objects,$(api_sources)) $(addprefix $(B)/obj/tests/kernel/,boot/without.o filter.o opcode.o) \
	$(support) $(static_library)
$(B)/boot/kernel: $(call objects,$(kernel_sources)) $(static_library)
$(B)/boot/torture: $(call objects,$(torture_sources)) $(static_library)
$(B)/boot/mio-info: $(call objects,$(info_sources)) $(static_library)
$(boot):
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call link_static,$(if $(filter %/api,$@),$(call pkg_config,--static --libs check)))

$(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(support) $(static_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call link_program,$(call pkg_config,--libs cmocka))

# The library as it is on a system with kqueue, over a model of kqueue on Linux: the objects of this build, but for what
# such a system has instead of Linux's own.
model_include = -isystem $(srcdir)/tests/support/kqueue
model_library := $(if $(filter 1,$(libmio_HAVE_KQUEUE)),,$(B)/tests/libmio-kqueue.a)
model_sources := $(kqueue_sources) lib/core/backend.cc tests/support/kqueue/model.cc
model_objects := $(filter-out $(linux_sources:%.cc=$(B)/obj/%.o) $(B)/obj/lib/core/backend.o,$(lib_objects)) \
	$(model_sources:%.cc=$(B)/obj/kqueue/%.o)
model_defines = $(filter-out -DMIO_HAVE_%,$(MIO_DEFINES)) -DMIO_HAVE_KQUEUE=1 -DMIO_HAVE_ACCEPT4=0
$(B)/obj/kqueue/lib/%.o: $(srcdir)/lib/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(filter-out $(MIO_DEFINES),$(lib_flags)) $(model_defines) $(model_include))

$(B)/obj/kqueue/tests/%.o: $(srcdir)/tests/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags) $(model_include))

$(model_library): $(model_objects)
	$(call say,AR,$@)
	@mkdir -p $(@D) && rm -f $@
	$(Q)$(AR) rcs $@ $^

$(B)/obj/tests/unit/test_kqueue_%.o: test_flags += $(model_include)
$(B)/tests/unit/test_kqueue_%: $(B)/obj/tests/unit/test_kqueue_%.o $(support) $(model_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call link_program,$(call pkg_config,--libs cmocka))

$(B)/tests/api-kqueue: $(call objects,$(api_sources)) $(support) $(model_library)
	$(call say,LINK,$@)
	$(Q)$(call link_program,$(call pkg_config,--libs check))

$(B)/tests/torture-kqueue: $(call objects,$(torture_sources)) $(model_library)
	$(call say,LINK,$@)
	$(Q)$(link_program)

# The library once more with -flto, for tests/abi/odr.
is_gcc = $(shell $(CXX) --version 2>/dev/null | grep -c 'Free Software Foundation')
odr_objects := $(lib_sources:%.cc=$(B)/obj/odr/%.o)
$(B)/obj/odr/%.o: $(srcdir)/%.cc $(B)/flags
	$(call say,LTO,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(lib_flags) $(CPPFLAGS) -O0 -flto $(MIO_SANITIZE) $(depend) -c -o $@ $<

comma := ,

# A suite is NAME=COMMAND for tools/run-tests; its last line says how many passed, failed, were skipped.
tool_names = CC='$(CC)' CXX='$(CXX)' CXXFLAGS='-std=c++17 -Wall -Wextra -I$(srcdir)/include $(CXXFLAGS)' \
	LIBS='$(static_library) -pthread $(LDFLAGS) $(LIBS)' NM='$(NM)' READELF='$(READELF)' PKG_CONFIG='$(PKG_CONFIG)' SANITIZE='$(MIO_SANITIZE)'
suite_includes = 'includes=$(srcdir)/tools/check-includes $(srcdir)'
suite_called = 'called=$(srcdir)/tools/check-called $(srcdir)'
suite_mutation = 'mutation=$(srcdir)/tests/mutation/run --applies $(srcdir)'
suite_configure = 'configure=$(srcdir)/tools/check-configure $(srcdir)'
suite_abi = 'headers=$(srcdir)/tests/abi/headers $(srcdir)' \
	'users=$(srcdir)/tests/abi/users $(srcdir) $(static_library) $(shared_library) $(soname)' \
	'symbols=$(srcdir)/tools/check-symbols $(srcdir) $(static_library) $(shared_library) $(soname)' \
	'released=$(srcdir)/tools/check-abi $(srcdir)' \
	'odr=$(if $(odr_built),$(srcdir)/tests/abi/odr $(srcdir) $(odr_objects),echo "skip: -Wodr is known to gcc only"; echo "odr: 0 passed, 0 failed, 1 skipped")' \
	$(if $(wildcard $(srcdir)/tests/abi/*.cc $(srcdir)/tests/abi/*.c),'abi=$(srcdir)/tests/abi/programs $(srcdir) $(static_library)')
suite_unit = $(foreach t,$(unit),'$(patsubst $(B)/tests/unit/test_%,unit[%],$(t))=$(t)')
suite_api = $(foreach b,$(1),$(if $(api),'api[$(b)]=$(api) --backend=$(b)'))
# $(call suite_torture,SEEDS ON SIM,WITHOUT MEMORY,ON EACH KERNEL BACKEND)
suite_torture = $(if $(torture),'torture[sim]=$(torture) --backend=sim --seeds=1:$(1)' \
	'torture[oom]=$(torture) --backend=sim --seeds=1:$(2) --oom' \
	$(foreach b,$(filter-out sim,$(BACKENDS)),'torture[$(b)]=$(torture) --backend=$(b) --seeds=1:$(3)'))
model_programs := $(if $(model_library),$(B)/tests/api-kqueue $(B)/tests/torture-kqueue)
suite_model_api = $(if $(model_library),'api[kqueue-model]=$(B)/tests/api-kqueue --backend=kqueue')
suite_model = $(suite_model_api) $(if $(model_library),'torture[kqueue-model]=$(B)/tests/torture-kqueue --backend=kqueue --seeds=1:30')

# $(call suite_inject,OPTIONS ON SIM,OPTIONS ON EACH KERNEL BACKEND)
# The last one fails every call of the ring's self-test, which others find done when they begin.
suite_inject = $(if $(inject),$(foreach b,$(BACKENDS),'inject[$(b)]=$(inject) --backend=$(b) --jobs=4 $(if $(filter sim,$(b)),$(1),$(2))') \
	'inject[self-test]=$(inject) --backend=epoll --filter=a_backend_that_is_not_there --longest=10000 --jobs=4')
suite_examples = $(if $(wildcard $(srcdir)/tests/examples/run),'examples=$(srcdir)/tests/examples/run $(B)/examples')
suite_http = $(foreach b,$(filter-out sim,$(BACKENDS)),'http_server[$(b)]=$(srcdir)/tests/examples/http_server $(B)/examples $(b)')
suite_kernel = $(if $(kernel),'kernel=$(srcdir)/tests/kernel/run $(B)')
suite_tracing = 'tracing=$(srcdir)/tools/check-tracing $(srcdir) $(B)'
suite_readme = 'readme=$(srcdir)/tools/check-readme $(srcdir) $(static_library)'
suite_docs = 'docs=$(srcdir)/tools/check-docs $(srcdir)' 'man=$(srcdir)/tools/check-man $(srcdir) $(B)/man $(installed_tools)' \
	'doxygen=$(srcdir)/tools/check-doxygen $(srcdir)'

odr_built = $(if $(filter 0,$(is_gcc)),,$(odr_objects))
jobs = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))

# What a test waits for comes at once on a quiet machine; on one that is shared, a process may stand still for seconds.
# Only what hangs is meant to see the end of these times.
slow_machine = $(if $(MIO_SANITIZE),10,4)

# They wait more than they compute. SUITES_AT_ONCE=1 for a quiet machine.
suites_at_once = $(or $(SUITES_AT_ONCE),$(shell nproc 2>/dev/null || echo 2))

# $(call test,WHAT TO BUILD,SUITES)
define test
@$(if $(filter yes,$(CROSS_COMPILING)),echo "tests do not run in a cross build"; exit 1)
+@$(MAKE) --no-print-directory $(jobs) these THESE='lib $(1)'
@export $(tool_names) CK_TIMEOUT_MULTIPLIER="$${CK_TIMEOUT_MULTIPLIER:-$(slow_machine)}" \
	UBSAN_OPTIONS="$${UBSAN_OPTIONS:-print_stacktrace=1}"; \
	$(srcdir)/tools/run-tests -j $(suites_at_once) -l $(B)/log -t $(TEST_TIMEOUT) $(2)
endef

running_tests = $(api) $(model_programs) $(unit) $(torture) $(inject) $(kernel) $(examples) $(installed_tools) $(bench) $(adapters_built)
# A share of the plans, the same ones every time; under a sanitizer a tenth of it, and none where only races are looked for.
inject_short = $(call suite_inject,--most=6 --longest=40 --share=$(if $(MIO_SANITIZE),20000,200000),--most=6 --longest=40 --share=$(if $(MIO_SANITIZE),10000,60000))

# A world has one thread: for races it is enough that its code was there.
sim_seeds = $(if $(looks_for_races),50,$(if $(MIO_SANITIZE),500,10000))
oom_seeds = $(if $(looks_for_races),10,$(if $(MIO_SANITIZE),100,500))
looks_for_races = $(findstring thread,$(MIO_SANITIZE))

run_suites = $(suite_unit) $(call suite_api,$(BACKENDS)) \
	$(call suite_torture,$(sim_seeds),$(oom_seeds),30) $(suite_model) \
	$(if $(looks_for_races),,$(inject_short)) $(suite_examples) $(suite_http) $(suite_adapters)

.PHONY: check check-tests check-quick check-unit check-api $(BACKENDS:%=check-%) check-kqueue check-abi check-examples check-inject check-kernel \
	check-includes check-configure check-readme check-docs check-http torture
check:
	$(call test,$(running_tests) $(odr_built) man,$(suite_includes) $(suite_called) $(suite_mutation) $(suite_configure) $(suite_abi) $(suite_readme) $(suite_docs) $(suite_tracing) $(suite_kernel) $(run_suites))
# What runs code of the library: what a sanitizer can say something about.
check-tests:
	$(call test,$(running_tests),$(run_suites))
# What a change is tried with first.
check-quick:
	$(call test,$(unit) $(api) $(firstword $(model_programs)),$(suite_unit) $(call suite_api,$(BACKENDS)) $(suite_model_api))
check-unit:
	$(call test,$(unit),$(suite_unit))
check-api:
	$(call test,$(api) $(firstword $(model_programs)),$(call suite_api,$(BACKENDS)) $(suite_model_api))
# On the model: nothing of kqueue can be run on Linux.
check-kqueue:
	$(call test,$(model_programs),$(suite_model))
$(BACKENDS:%=check-%): check-%:
	$(call test,$(api),$(call suite_api,$*))
check-inject:
	$(call test,$(inject),$(inject_short))
torture: TEST_TIMEOUT = 7200
torture:
	$(call test,$(torture) $(inject),$(call suite_torture,10000,10000,1000) $(call suite_inject,--from,--most=40 --from))
check-abi:
	$(call test,$(odr_built),$(suite_abi))
check-examples:
	$(call test,$(examples) $(installed_tools),$(suite_examples))
check-http:
	$(call test,$(filter %/http_server,$(examples)),$(suite_http))
check-kernel:
	$(call test,$(api) $(kernel) $(examples),$(suite_kernel))
check-includes:
	$(call test,,$(suite_includes) $(suite_called))
check-configure:
	$(call test,,$(suite_configure))
check-readme:
	$(call test,,$(suite_readme))
check-docs:
	$(call test,$(installed_tools) man,$(suite_readme) $(suite_docs))

# Other kernels, in qemu: all of them with everything, or one with the quickest part.
.PHONY: kernels check-kernels
kernels check-kernels: TEST_TIMEOUT = 1500
kernels:
	+@$(MAKE) --no-print-directory -k $(jobs) these THESE='$(boot)' || echo "not all could be linked statically"
	@$(srcdir)/tests/kernel/boot/run $(B)/boot $(RELEASES)
check-kernels:
	+@$(MAKE) --no-print-directory -k $(jobs) these THESE='$(boot)' || echo "not all could be linked statically"
	$(call test,,'kernels=$(srcdir)/tests/kernel/boot/run --short $(B)/boot')

# By hand: the examples' servers under load on a network that loses, resets and parts, in namespaces of their own.
SOAK_SECONDS = 600
SOAK_BACKENDS = $(filter-out sim,$(BACKENDS))
.PHONY: soak
soak:
	+@$(MAKE) --no-print-directory $(jobs) these THESE='$(examples) $(load)'
	@$(srcdir)/tests/soak/run $(B) $(SOAK_SECONDS) $(SOAK_BACKENDS)

# Mistakes planted one by one in a copy of the tree, and which test sees each; MUTATIONS='NAME...' for some of them.
.PHONY: mutations
mutations:
	+@MAKE='$(MAKE)' CC='$(CC)' CXX='$(CXX)' $(srcdir)/tests/mutation/run $(srcdir) $(B)/mutation $(MUTATIONS)

include $(srcdir)/tests/fuzz/fuzz.mk
include $(srcdir)/tests/adapters/adapters.mk

# Compiled and linked for macOS, not run. Not part of `make check`: it may have to bring a compiler.
.PHONY: check-macos
check-macos:
	@$(srcdir)/tools/check-macos $(srcdir) $(B)/macos

.PHONY: demo bench coverage
demo:
	+@$(MAKE) --no-print-directory $(jobs) these THESE='lib examples tools'
	@$(srcdir)/tools/demo $(B)

# BENCH_ARGS are arguments for mio-bench.
bench:
	+@$(MAKE) --no-print-directory $(jobs) these THESE='$(bench)'
	@$(if $(bench),$(bench) $(BENCH_ARGS),echo "there is no benchmark: tools/bench is empty"; exit 1)

# Another build, of its own, in build/coverage: lines and branches of lib/ that the tests reach; what they do not is listed.
# Only lib/ is compiled with counters, and as a guard build, which has all of the code. Forked children write theirs, too.
coverage:
	@mkdir -p $(B)/coverage
	@cd $(B)/coverage && $(abspath $(srcdir))/configure -q CC='$(CC)' CXX='$(CXX)' CXXFLAGS='-O0 -g' CFLAGS='-O0 -g' \
		LDFLAGS='--coverage -Wl,-u,__gcov_dump' --enable-guard
	@find $(B)/coverage -name '*.gcda' -delete
	+@$(MAKE) --no-print-directory -C $(B)/coverage -k check-tests check-kernel COVERAGE=--coverage TEST_TIMEOUT=2700 || \
		[ -n "$$(find $(B)/coverage -name '*.gcda' | head -n 1)" ]
	@$(srcdir)/tools/coverage-report $(B)/coverage/$(B)/obj/lib $(B)/coverage/unreached
	@echo 'not reached: $(B)/coverage/unreached'

include $(srcdir)/tools/build-aux/install.mk

# --------------------------------------------------------------------------------------------------- cleaning

.PHONY: clean distclean
# build/ may be somebody's own build directory as well: only what this Makefile put there goes.
clean:
	@[ ! -d $(B)/distcheck ] || chmod -R u+w $(B)/distcheck
	@rm -rf $(addprefix $(B)/,obj bin examples tests boot log man coverage fuzz mutation soak distcheck deb cross macos ci flags libmio.pc \
		libmio-config.cmake libmio-config-version.cmake) $(B)/libmio.a $(B)/libmio.so* $(B)/libmio*.dylib
	@rmdir $(B) 2>/dev/null || true

distclean: clean
	@rm -rf config.mk config.log config.status autom4te.cache install.dirs libmio-*.tar.gz
	@if [ '$(srcdir)' != . ] && grep -q 'written by configure' Makefile; then rm -f Makefile; fi

help:
	@echo 'make                  the library, mio-load, mio-info and mio-top'
	@echo 'make check            set everything up, build, run every test'
	@echo 'make demo             set everything up, build, put the echo server under load'
	@echo 'make check-PART       PART: api $(BACKENDS) kqueue unit abi examples http adapters inject kernel includes configure'
	@echo '                      readme docs, quick (unit, api), tests (all that runs the library)'
	@echo 'make check-macos      compiles and links for macOS, with zig'
	@echo 'make kernels          the tests on other kernels, booted in qemu; RELEASES="bullseye bookworm trixie"'
	@echo 'make torture          random sequences of calls against a model, 10,000 seeds of each kind; every API test'
	@echo '                      with each allocation and each system call failing'
	@echo 'make fuzz             the fuzzers of tests/fuzz, FUZZ_SECONDS=600 each; check-fuzz: 60 s each, all at once'
	@echo 'make mutations        plants mistakes in the library, one by one: does a test see each?'
	@echo 'make soak             servers on a bad network: SOAK_SECONDS=600, SOAK_BACKENDS="io_uring epoll"'
	@echo 'make bench            the micro-benchmark; BENCH_ARGS=...'
	@echo 'make coverage         lines and branches of lib/ that the tests reach, by room'
	@echo 'make man              the manual pages, in $(B)/man'
	@echo 'make install          DESTDIR=... for packagers; uninstall, installcheck'
	@echo 'make dist, distcheck  a tarball; build and test it'
	@echo 'make check-more       distcheck, check-deb (Debian packages), check-cross (CROSS_HOST=aarch64-linux-gnu)'
	@echo 'make clean, distclean'
	@echo 'V=1 shows the commands; ./configure --help lists the options'

-include $(patsubst %.o,%.d,$(lib_objects) $(odr_objects) $(model_objects) \
	$(call objects,$(example_sources) $(load_sources) $(info_sources) $(top_sources) $(bench_sources) $(api_sources) $(unit_sources) \
	$(support_sources) $(torture_sources) $(kernel_sources) $(inject_sources) \
	$(wildcard $(srcdir)/tests/fuzz/*.cc) $(boot_sources)))
