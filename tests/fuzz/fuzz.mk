# Part of the Makefile, which includes it: the fuzzers.
#
# Fuzzers, by clang with libFuzzer: another build, of its own, in build/fuzz. Only lib/ tells the fuzzer what was reached.
FUZZ_CC = clang
FUZZ_CXX = clang++
FUZZ_SECONDS =
fuzz_names := $(if $(filter 1,$(libmio_HAVE_URING)),ring) addr api
fuzz_built = $(B)/fuzz/$(B)/tests/fuzz
fuzz_objects = $(call objects,$(sort $(wildcard $(srcdir)/tests/fuzz/$(1).cc $(srcdir)/tests/fuzz/$(1)_*.cc)))

$(B)/obj/tests/fuzz/%.o: $(srcdir)/tests/fuzz/%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags) -I$(srcdir)/lib $(call pkg_config,--cflags cmocka))

# The library last: a fuzzer may have a panic of its own.
$(foreach t,$(fuzz_names),$(eval $(B)/tests/fuzz/$(t): $(call fuzz_objects,$(t)) $(support) $(static_library)))
$(fuzz_names:%=$(B)/tests/fuzz/%):
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call link_program,$(call pkg_config,--libs cmocka) -fsanitize=fuzzer)

define build_fuzzers
+@mkdir -p $(B)/fuzz; if $(srcdir)/tests/fuzz/run --can $(FUZZ_CXX); then cd $(B)/fuzz && \
	$(abspath $(srcdir))/configure -q --with-sanitizer=address,undefined CC='$(FUZZ_CC)' CXX='$(FUZZ_CXX)' CFLAGS='-O1 -g' \
	CXXFLAGS='-O1 -g' && $(MAKE) --no-print-directory $(jobs) these THESE='$(fuzz_names:%=$(B)/tests/fuzz/%)' \
	COVERAGE=-fsanitize=fuzzer-no-link; fi
endef

.PHONY: fuzz check-fuzz fuzz-corpus
# What is found in a long run lies in build/fuzz/found; the inputs that a run came to know are kept for the next one.
fuzz:
	$(build_fuzzers)
	@$(srcdir)/tests/fuzz/run $(fuzz_built) $(B)/fuzz $(or $(FUZZ_SECONDS),600) $(fuzz_names)
check-fuzz:
	$(build_fuzzers)
	@$(srcdir)/tools/run-tests -l $(B)/log -t 2700 \
		'fuzz=$(srcdir)/tests/fuzz/run --seed=1 $(fuzz_built) $(B)/fuzz $(or $(FUZZ_SECONDS),60) $(fuzz_names)'
# Writes tests/fuzz/corpus anew: the fewest inputs that reach what it, and what the runs came to know, reach.
fuzz-corpus:
	$(build_fuzzers)
	@$(srcdir)/tests/fuzz/run --merge $(fuzz_built) $(B)/fuzz $(fuzz_names)
