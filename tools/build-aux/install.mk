# Part of the Makefile, which includes it: what is installed, and what is handed to others.

# ----------------------------------------------------------------------------------------------- installation

pkgconfigdir = $(libdir)/pkgconfig
cmakedir = $(libdir)/cmake/libmio
gdbdir = $(datadir)/gdb/auto-load$(libdir)
bpftracedir = $(datadir)/libmio/bpftrace
bpftrace_scripts := $(sort $(wildcard $(srcdir)/tools/bpftrace/*.bt))
install_list = install.dirs
make_directories = $(srcdir)/tools/build-aux/make-directories $(install_list)

# Directories below the prefix are written relative to it, so that the tree may be moved.
from_prefix = $(patsubst $(prefix),$${prefix},$(patsubst $(prefix)/%,$${prefix}/%,$(1)))
fill_in = sed -e 's|@prefix@|$(prefix)|' -e 's|@exec_prefix@|$(call from_prefix,$(exec_prefix))|' \
	-e 's|@libdir@|$(call from_prefix,$(libdir))|' -e 's|@includedir@|$(call from_prefix,$(includedir))|' \
	-e 's|@PACKAGE_VERSION@|$(PACKAGE_VERSION)|' -e 's|@SONAME@|$(soname)|' -e 's|@SHARED_LIBRARY@|$(so_file)|' \
	-e 's|@INCLUDEDIR_FROM_HERE@|$(shell realpath -m --relative-to='$(cmakedir)' '$(includedir)')|'

installed_files = \
	$(public_headers:include/%=$(includedir)/%) \
	$(libdir)/libmio.a $(libdir)/$(so_name) $(libdir)/$(soname) $(libdir)/$(so_file) \
	$(pkgconfigdir)/libmio.pc $(cmakedir)/libmio-config.cmake $(cmakedir)/libmio-config-version.cmake \
	$(installed_tools:$(B)/bin/%=$(bindir)/%) \
	$(gdbdir)/$(so_file)-gdb.py $(addprefix $(bpftracedir)/,$(notdir $(bpftrace_scripts))) \
	$(addprefix $(mandir)/,$(shell $(srcdir)/tools/make-man --list $(srcdir)))

# $(call install_man,SECTIONS)
define install_man
@$(make_directories) $(addprefix $(DESTDIR)$(mandir)/man,$(1))
@for section in $(1); do $(INSTALL) -m 644 $(B)/man/man$$section/* $(DESTDIR)$(mandir)/man$$section || exit 1; done
endef

# The list of directories is kept relative to nothing: DESTDIR is part of every line. In parts, for packages: what a program
# needs that runs, what one needs that is built, and the tools.
.PHONY: install install-lib install-dev install-tools install-man install-done uninstall installcheck
install: install-lib install-dev install-tools install-done

install-lib: lib
	@$(make_directories) $(DESTDIR)$(libdir)
	@$(INSTALL) -m 755 $(shared_library) $(DESTDIR)$(libdir)
	@ln -sf $(notdir $(shared_library)) $(DESTDIR)$(libdir)/$(soname)

install-dev: lib man
	@$(make_directories) $(addprefix $(DESTDIR),$(includedir)/mio $(includedir)/mio/adapters $(pkgconfigdir) $(cmakedir) $(gdbdir))
	@$(INSTALL) -m 644 $(addprefix $(srcdir)/,$(filter-out include/mio/%,$(public_headers))) $(DESTDIR)$(includedir)
	@$(INSTALL) -m 644 $(addprefix $(srcdir)/,$(filter-out include/mio/adapters/%,$(filter include/mio/%,$(public_headers)))) $(DESTDIR)$(includedir)/mio
	@$(INSTALL) -m 644 $(addprefix $(srcdir)/,$(filter include/mio/adapters/%,$(public_headers))) $(DESTDIR)$(includedir)/mio/adapters
	@$(INSTALL) -m 644 $(static_library) $(DESTDIR)$(libdir)
	@ln -sf $(soname) $(DESTDIR)$(libdir)/$(so_name)
	@$(fill_in) $(srcdir)/libmio.pc.in >$(B)/libmio.pc
	@$(fill_in) $(srcdir)/tools/build-aux/libmio-config.cmake.in >$(B)/libmio-config.cmake
	@$(fill_in) $(srcdir)/tools/build-aux/libmio-config-version.cmake.in >$(B)/libmio-config-version.cmake
	@$(INSTALL) -m 644 $(B)/libmio.pc $(DESTDIR)$(pkgconfigdir)
	@$(INSTALL) -m 644 $(B)/libmio-config.cmake $(B)/libmio-config-version.cmake $(DESTDIR)$(cmakedir)
	@$(INSTALL) -m 644 $(srcdir)/tools/gdb/libmio-gdb.py $(DESTDIR)$(gdbdir)/$(so_file)-gdb.py
	$(call install_man,3 7)

install-tools: tools man
	@$(make_directories) $(addprefix $(DESTDIR),$(bindir) $(bpftracedir))
	@$(INSTALL) -m 755 $(installed_tools) $(DESTDIR)$(bindir)
	@$(INSTALL) -m 755 $(bpftrace_scripts) $(DESTDIR)$(bpftracedir)
	$(call install_man,1)

install-done: install-lib install-dev install-tools
	$(if $(DESTDIR),,@-if [ "$$(id -u)" = 0 ]; then ldconfig 2>/dev/null || true; fi)
	@echo "installed libmio $(PACKAGE_VERSION) in $(DESTDIR)$(prefix)"

install-man: man
	$(call install_man,1 3 7)

uninstall:
	@rm -f $(addprefix $(DESTDIR),$(installed_files))
	@rmdir $(DESTDIR)$(includedir)/mio/adapters $(DESTDIR)$(includedir)/mio $(DESTDIR)$(cmakedir) $(DESTDIR)$(bpftracedir) 2>/dev/null || true
	@$(srcdir)/tools/build-aux/remove-directories $(install_list)
	$(if $(DESTDIR),,@-if [ "$$(id -u)" = 0 ]; then ldconfig 2>/dev/null || true; fi)
	@echo "removed libmio from $(DESTDIR)$(prefix)"

installcheck:
	@$(tool_names) $(srcdir)/tools/installcheck '$(libdir)' '$(DESTDIR)' '$(mandir)'

# ----------------------------------------------------------------------------------------------- distribution

package = libmio-$(shell sed -n 's/^AC_INIT(\[libmio\], \[\(.*\)\])$$/\1/p' $(srcdir)/configure.ac)

# What git tracks, as it stands in the tree; in an unpacked tarball: all but what building made.
list_files = if git -C $(srcdir) ls-files --error-unmatch configure.ac >/dev/null 2>&1; then git -C $(srcdir) ls-files; else \
	cd $(srcdir) && find . -type f -o -type l | sed 's,^\./,,' | \
	grep -vE '^(build/|autom4te.cache/|config\.(log|mk|status)$$|install\.dirs$$|libmio-[^/]*\.tar\.gz$$)'; fi

.PHONY: dist distcheck
dist:
	@($(list_files)) | LC_ALL=C sort | tar -C $(srcdir) -czf $(package).tar.gz --owner=0 --group=0 --numeric-owner \
		--mtime=@$${SOURCE_DATE_EPOCH:-$$(date +%s)} --transform 's,^,$(package)/,' -T -
	@echo "made $(package).tar.gz"

# From the tarball, its sources read-only: build outside, test, install, uninstall, clean; nothing must stay.
distcheck: dist
	+@MAKE='$(MAKE)' $(srcdir)/tools/distcheck $(package) $(B)/distcheck CC='$(CC)' CXX='$(CXX)' $(if $(MIO_WERROR),--enable-werror)

# What takes longer, or other packages, than `make check`: Debian's packages, another processor, the tarball as a packager
# takes it.
CROSS_HOST = aarch64-linux-gnu
suite_deb = 'deb=$(srcdir)/tools/check-deb $(package) $(srcdir) $(B)/deb'
suite_cross = 'cross=$(srcdir)/tools/check-cross $(srcdir) $(B)/cross $(CROSS_HOST)'
.PHONY: check-deb check-cross check-more
check-deb check-cross check-more: TEST_TIMEOUT = 3600
check-deb: dist
	$(call test,,$(suite_deb))
check-cross:
	$(call test,,$(suite_cross))
check-more: dist
	$(call test,,$(suite_deb) $(suite_cross) 'dist=$(MAKE) --no-print-directory distcheck')
