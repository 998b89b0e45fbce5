# Part of the Makefile, which includes it: the adapters' tests and examples.
#
# Each adapter's tests and its example are built where configure found what it is for, and are a counted skip elsewhere.
# The tests are in the harness of the API suite, linked with the loop's backends or with the model of kqueue.
adapters := curl hiredis cares glib
package[curl] := libcurl
package[hiredis] := hiredis
package[cares] := libcares
package[glib] := glib-2.0
here[curl] := $(HAVE_LIBCURL)
here[hiredis] := $(HAVE_HIREDIS)
here[cares] := $(HAVE_CARES)
here[glib] := $(HAVE_GLIB)
adapters_here := $(foreach a,$(adapters),$(if $(filter yes,$(here[$(a)])),$(a)))

adapter_examples := $(adapters_here:%=$(B)/examples/adapters/%)
adapter_tests := $(adapters_here:%=$(B)/tests/adapters/%)
adapter_model_tests := $(if $(model_library),$(adapters_here:%=$(B)/tests/adapters/%-kqueue))
adapter_harness := $(call objects,$(filter-out $(srcdir)/tests/api/test_%,$(api_sources)))
# Their headers are not ours: no warnings from there.
adapter_cflags = $(patsubst -I%,-isystem %,$(call pkg_config,--cflags $(package[$(1)])))
adapter_libs = $(call pkg_config,--libs $(package[$(1)]))

$(B)/obj/examples/adapters/%.o: $(srcdir)/examples/adapters/%.c $(B)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -I$(srcdir)/include $(call adapter_cflags,$*) $(program_warnings) -pthread $(CPPFLAGS) $(CFLAGS) \
		$(MIO_SANITIZE) $(depend) -c -o $@ $<

$(B)/examples/adapters/%: $(B)/obj/examples/adapters/%.o $(static_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call link_program,$(call adapter_libs,$*))

$(B)/obj/tests/adapters/test_%.o: $(srcdir)/tests/adapters/test_%.cc $(B)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(call compile,$(test_flags) -I$(srcdir)/tests/api $(call adapter_cflags,$*) $(call pkg_config,--cflags check))

$(adapter_tests): $(B)/tests/adapters/%: $(B)/obj/tests/adapters/test_%.o $(adapter_harness) $(support) $(static_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call link_program,$(call adapter_libs,$*) $(call pkg_config,--libs check))

$(adapter_model_tests): $(B)/tests/adapters/%-kqueue: $(B)/obj/tests/adapters/test_%.o $(adapter_harness) $(support) $(model_library)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(call link_program,$(call adapter_libs,$*) $(call pkg_config,--libs check))

adapters_built := $(adapter_tests) $(adapter_model_tests) $(adapter_examples)
suite_adapters = $(foreach a,$(adapters),$(if $(filter $(a),$(adapters_here)), \
	$(foreach b,$(filter-out sim,$(BACKENDS)),'$(a)[$(b)]=$(B)/tests/adapters/$(a) --backend=$(b)') \
	$(if $(model_library),'$(a)[kqueue-model]=$(B)/tests/adapters/$(a)-kqueue --backend=kqueue'), \
	'$(a)=echo "skip: configure found no $(package[$(a)]): tools/bootstrap --all, then configure"; echo "$(a): 0 passed, 0 failed, 1 skipped"')) \
	'adapters=$(srcdir)/tests/adapters/run $(B)/examples/adapters $(filter-out sim,$(BACKENDS))'

.PHONY: check-adapters
check-adapters:
	$(call test,$(adapters_built),$(suite_adapters))

-include $(adapters:%=$(B)/obj/tests/adapters/test_%.d) $(adapters:%=$(B)/obj/examples/adapters/%.d)
