# Makes the manual pages of section 3 from the public headers: what stands there is the contract, and is written once.
#
# Run by tools/make-man with all headers as arguments and the variables
#   source, out    directories: hand-written parts and docs are read below the one, pages written below the other
#   date, version  for the titles
#
# What it understands is how the headers are written:
#   - the first comment is the title and the description; "/* --- words ---" begins a part
#   - a comment belongs to the declarations that follow it without an empty line; one behind a declaration to that
#   - what is inside a second #if is for the compiler, not for people; so are a struct without a typedef, and names that end
#     in "_". Of an inline function the declaration counts
# A header that cannot be understood so is an error, never a page that lacks something.
#
# man/NOUN.in has what a header cannot say. Lines "@types", "@functions", "@notes" begin what is put at the end of that
# section; "@see PAGE(N) ..." adds references, "@example FILE" replaces the first program of docs/NOUN.md.

function fail(what) {
    print FILENAME ":" FNR ": " what >"/dev/stderr"
    failed = 1
}

# --- reading the headers ---------------------------------------------------------------------------------------------

function add_item(what, text, body) {
    items[page]++
    kind[page, items[page]] = what
    words[page, items[page]] = text
    code[page, items[page]] = body
    if (text ~ /^--- /) kind[page, items[page]] = "heading"
}

function end_group(n, part, i) {
    if (group != "") add_item(group, comment, decls)
    else if (comment != "") add_item("text", comment, "")
    if (group == "function" && comment == "") {
        n = split(decls, part, "\n")
        for (i = 1; i < n; i++)
            if (!(name_of(part[i]) in note_of)) fail(name_of(part[i]) " has no comment")
    }
    group = comment = decls = ""
}

# The text of comment lines without their frame.
function bare(line) {
    sub(/^ *\/\*+ ?/, "", line)
    sub(/ *\*\/ *$/, "", line)
    sub(/^ *\* ?/, "", line)
    return line
}

function name_of(decl, at) {
    if (match(decl, /\(\*[a-z_0-9]+\)/)) return substr(decl, RSTART + 2, RLENGTH - 3)
    if (decl ~ /^typedef/ && decl !~ /\(/) {
        sub(/ *;.*/, "", decl)
        sub(/.*[ *}]/, "", decl)
        return decl
    }
    if (match(decl, /mio_[a-z_0-9]+\(/)) return substr(decl, RSTART, RLENGTH - 1)
    return ""
}

function end_statement(name) {
    gsub(/[ \t]+/, " ", statement)
    sub(/^ /, "", statement)
    what = statement ~ /^MIO_API|static inline/ ? "function" : "type"
    gsub(/MIO_API |MIO_CHECK_RESULT |static inline /, "", statement)
    name = name_of(statement)
    if (name ~ /_$/) { # private
        statement = behind = ""
        if (group == "") comment = ""
        return
    }
    if (name == "") { fail("no name in: " statement); return }
    if (group != "" && (group != what || (what == "type" && comment != "" && behind != ""))) end_group()
    group = what
    decls = decls statement "\n"
    page_of[name] = page
    if (what == "function") {
        function_of[name] = page
        names[page] = names[page] " " name
    }
    if (behind != "") note_of[name] = behind
    statement = behind = ""
}

function end_file() {
    if (in_comment || statement != "" || body != "" || level != 0) fail("the end of " page " is in the middle of something")
    end_group()
}

FNR == 1 {
    if (page != "") end_file()
    page = FILENAME
    sub(/.*\//, "", page); sub(/\.h$/, "", page)
    include_as = FILENAME
    sub(/.*\/include\//, "", include_as)
    page = "mio_" page
    pages[++page_count] = page
    header[page] = include_as
    level = 0
    first = 1
    group = comment = decls = statement = behind = body = ""
    in_comment = in_macro = in_inline = in_private = 0
}

in_macro { in_macro = /\\$/; macro_line($0); next }

# The table of errors is one macro.
function macro_line(line) {
    if (match(line, /X\(MIO_[A-Z0-9_]+, /)) {
        error_name = substr(line, RSTART + 2, RLENGTH - 4)
        error_text[error_name] = line
        sub(/^[^"]*"/, "", error_text[error_name]); sub(/".*/, "", error_text[error_name])
        errors[++error_count] = error_name
    }
}

in_inline { if (/^}/) in_inline = 0; next }
in_private { if (/^};/) in_private = 0; next }

in_comment { # at file scope
    comment = comment "\n" bare($0)
    if (/\*\/ *$/) { in_comment = 0; end_comment() }
    next
}

function end_comment() {
    if (!first) {
        if (comment ~ /^--- /) { add_item("heading", comment, ""); comment = "" }
        return
    }
    first = 0
    title = comment
    sub(/\n?SPDX-License-Identifier.*/, "", title)
    description[page] = comment
    sub(/^.*SPDX-License-Identifier: [^\n]*\n?\n?/, "", description[page])
    gsub(/\n/, " ", title); sub(/\. *$/, "", title)
    titles[page] = title
    comment = ""
}

behind_open { # a comment behind a declaration goes on
    behind = behind " " bare($0)
    if (/\*\//) { behind_open = 0; end_statement() }
    next
}

body != "" && /^#/ { next }
body != "" { # of a struct or an enum
    if (/^ +MIO_[A-Z]+\(MIO_[A-Z_]+\)$/) sub(/MIO.*/, "...") # its members come from a macro
    body = body "\n" $0
    if (/^}/) {
        sub(/MIO_ENUM_ /, "", body)
        name = body
        sub(/ *;[^;]*$/, "", name); sub(/.*[ }]/, "", name)
        if (body ~ /^enum/) { name = body; sub(/^enum /, "", name); sub(/ .*/, "", name) }
        page_of[name] = page
        text = comment
        comment = ""
        last = $0
        body_text = ""
        if (last ~ /\/\*/) { sub(/.*\/\* */, "", last); sub(/ *\*\/.*/, "", last); text = text (text == "" ? "" : "\n") last }
        if (body ~ /^enum/ || body ~ /^typedef enum/) add_item("enum", text, body)
        else add_item("struct", text, body)
        body = ""
    }
    next
}

/^#/ {
    if (/^#(if|ifdef|ifndef)/) {
        if (++level == 2) { described = group == "" && comment != "" ? items[page] + 1 : 0; end_group() }
    } else if (/^#define [A-Z_]+[A-Z]\(/ && level == 2 && described) {
        code[page, described] = $2 # what the comment before the #if is about
        described = 0
    }
    else if (/^#endif/) level--
    else if (/^#define/ && level == 1) {
        name = $2
        if (name ~ /[A-Z]\(/ && comment != "") { # what the comment before it is about
            add_item("text", comment, name)
            comment = ""
        } else if (name ~ /_INIT$/ && /MIO_OPTIONS_INIT_\(/) {
            init = $0
            sub(/.*MIO_OPTIONS_INIT_\(/, "", init); sub(/\).*/, "", init)
            init_of[init] = name
            page_of[name] = page
        } else if (name !~ /_$/ && name !~ /_H$/ && name !~ /\(/ && NF > 2) {
            if (group != "" && group != "macro") end_group()
            group = "macro"
            decls = decls $0 "\n"
            page_of[name] = page
        }
    }
    in_macro = /\\$/
    if (!in_macro) macro_line($0)
    next
}
level > 1 { next }
/^MIO_(BEGIN|END)$/ { end_group(); next }
/^MIO_DEFINE_INIT_/ { next }
/^[ \t]*$/ { if (statement == "") end_group(); next }

/^\/\*/ {
    end_group()
    comment = bare($0)
    if (comment == "") comment = " "
    if (/\*\/ *$/) end_comment()
    else in_comment = 1
    next
}

/^enum [a-z_]+ MIO_ENUM_ \{.*};$/ { # on one line
    if (group != "") end_group()
    name = $2
    page_of[name] = page
    sub(/MIO_ENUM_ /, "")
    sub(/\{ */, "{\n    "); sub(/ *};/, "\n};"); gsub(/, /, ",\n    ")
    add_item("enum", comment, $0)
    comment = ""
    next
}
/^(typedef struct [a-z_]+|typedef union [a-z_]+|enum [a-z_]+( MIO_ENUM_)?) \{/ {
    if (group != "") end_group()
    body = $0
    next
}

{
    line = $0
    if (statement == "" && line ~ /^struct [a-z_]+ \{$/) {
        in_private = 1
        comment = ""
        next
    }
    if (statement == "" && line !~ /^(MIO_API|MIO_CHECK_RESULT|typedef|static inline|struct|extern)/) {
        fail("not understood: " line)
        next
    }
    if (match(line, /; *\/\*.*/)) {
        behind = substr(line, RSTART + 1)
        line = substr(line, 1, RSTART)
        behind_open = behind !~ /\*\//
        sub(/^ */, "", behind)
        behind = bare(behind)
    }
    if (line ~ /\{/ && (statement line) ~ /static inline/) {
        in_inline = line !~ /}[ \t]*$/
        sub(/ *\{.*/, ";", line)
    }
    statement = statement " " line
    if (!behind_open && line ~ /;[ \t]*$/) end_statement()
}

# --- the parts written by hand, and the programs ---------------------------------------------------------------------

function read_part(path, line, section, n, part, i) {
    for (section in hand) delete hand[section]
    section = ""
    while ((getline line <path) > 0) {
        if (line ~ /^@see /) {
            n = split(line, part, " ")
            for (i = 2; i <= n; i++) refer(substr(part[i], 1, index(part[i], "(") - 1), substr(part[i], index(part[i], "(") + 1, 1))
        } else if (line ~ /^@example /) hand["example"] = substr(line, 10)
        else if (line ~ /^@(types|functions|notes|description)$/) section = substr(line, 2)
        else if (line ~ /^@/ || section == "") { print path ": not understood: " line >"/dev/stderr"; failed = 1 }
        else hand[section] = hand[section] line "\n"
    }
    close(path)
}

# The first whole program of a docs page, or of a file.
function read_example(noun, line, text, inside, path) {
    if ("example" in hand) {
        path = source "/" hand["example"]
        text = ""
        while ((getline line <path) > 0) text = text line "\n"
        close(path)
        if (text == "") { print path ": no such example" >"/dev/stderr"; failed = 1 }
        return text
    }
    path = source "/docs/" noun ".md"
    inside = 0
    text = ""
    while ((getline line <path) > 0) {
        if (inside && line ~ /^```/) {
            if (text ~ /main\(/) break
            inside = 0
            text = ""
        } else if (inside) text = text line "\n"
        else if (line ~ /^```(c|c\+\+)$/) inside = 1
    }
    close(path)
    return text ~ /main\(/ ? text : ""
}

function put_names(n, name, i, line) {
    emit(".SH NAME")
    n = split(names[page], name, " ")
    line = page
    for (i = 1; i <= n; i++) {
        line = line ","
        if (length(line) + length(name[i]) > 76) { emit(line); line = name[i] }
        else line = line " " name[i]
    }
    emit(line)
    line = titles[page]
    if (line !~ /^[A-Z][A-Z]/) line = tolower(substr(line, 1, 1)) substr(line, 2)
    emit("\\- " line)
}

function put_synopsis(i, n, line, j, any) {
    emit(".SH SYNOPSIS\n.nf")
    if (header[page] ~ /adapters/) emit("\\fB#include <" header[page] ">\\fP")
    else emit("\\fB#include <mio.h>\\fP            /* or <" header[page] "> */")
    any = 0
    for (i = 1; i <= items[page]; i++) {
        if (kind[page, i] != "function") continue
        emit(".PP")
        n = split(code[page, i], line, "\n")
        for (j = 1; j < n; j++) put_declaration(line[j])
    }
    emit(".fi")
}

function put_errors(i, any) {
    any = 0
    for (i = 1; i <= error_count; i++) {
        if (!(errors[i] in named) && page != "mio_error") continue
        if (!any) {
            emit(".SH ERRORS")
            if (page == "mio_error") emit("All of them:")
            else emit("Named on this page, with the text that \\fBmio_error_text\\fP(3) has for each:")
        }
        emit(".TP 24\n\\fB" errors[i] "\\fP\n" error_text[errors[i]])
        if (!any) emit(".PD 0")
        any = 1
    }
    if (any) emit(".PD")
}

# References in the order of man pages: by section, then by name.
function put_see(i, j, n, list, what, key, swap, line) {
    refer("mio", "7")
    if (page != "mio_error") refer("mio_error", "3")
    n = 0
    for (what in referred) {
        n++
        list[n] = what
        order[n] = substr(what, index(what, "(") + 1, 1) " " what
    }
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && order[j] < order[j - 1]; j--) {
            swap = order[j]; order[j] = order[j - 1]; order[j - 1] = swap
            swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap
        }
    emit(".SH SEE ALSO")
    for (i = 1; i <= n; i++) {
        what = list[i]
        emit(".BR " substr(what, 1, index(what, "(") - 1) " " substr(what, index(what, "(")) (i < n ? "," : ""))
    }
}

function put_page(noun, i, n, name, text, line, what) {
    noun = substr(page, 5)
    file = out "/man3/" page ".3"
    for (what in referred) delete referred[what]
    for (what in named) delete named[what]
    for (what in parameter) delete parameter[what]
    types_begun = 0
    read_part(source "/man/" page ".in")

    emit(".\\\" Made by tools/make-man from include/" header[page] ".")
    emit(".TH " page " 3 \"" date "\" \"libmio " version "\" \"libmio\"\n.nh\n.ad l")
    put_names()
    emit(".SH LIBRARY\nlibmio (\\fB\\-lmio\\fP; \\fBpkg\\-config \\-\\-cflags \\-\\-libs libmio\\fP)")
    put_synopsis()
    if (description[page] != "" || "description" in hand) {
        emit(".SH DESCRIPTION")
        put_prose(description[page], ".PP")
        if ("description" in hand) {
            if (description[page] != "") emit(".PP")
            emit_lines(hand["description"])
        }
    }
    if (names[page] != "") {
        emit(".SH FUNCTIONS")
        put_functions()
        if ("functions" in hand) emit_lines(hand["functions"])
    }
    put_types()
    if ("types" in hand) emit_lines(hand["types"])
    emit(".SH THREADS")
    emit("A loop and all that is on it belong to the thread that runs it.\nFunctions marked [any thread] may be called on any other,")
    emit("those marked [signal\\-safe] in a signal handler, too,\nthose marked [in diagnostics] inside the callbacks that run inside calls.")
    emit("See \\fBmio\\fP(7).")
    put_errors()
    if ("notes" in hand) { emit(".SH NOTES"); emit_lines(hand["notes"]) }
    text = read_example(noun)
    if (text != "") {
        emit(".SH EXAMPLES")
        emit(".nf")
        n = split(text, line, "\n")
        for (i = 1; i < n; i++) put_code(line[i])
        emit(".fi")
    }
    put_see()
    close(file)
}

END {
    end_file()
    for (i = 1; i <= page_count; i++) { page = pages[i]; is_page[page] = 1 }
    # An opaque type is its noun's.
    for (name in page_of) {
        noun = name
        if (sub(/_t$/, "", noun) && noun in is_page) page_of[name] = noun
    }
    for (i = 1; i <= page_count; i++) {
        page = pages[i]
        put_page()
    }
    for (name in page_of) {
        if (name in is_page || name !~ /^mio_/) continue
        file = out "/man3/" name ".3"
        emit(".so man3/" page_of[name] ".3")
        close(file)
    }
    # The list of nouns for mio(7).
    file = out "/nouns"
    for (i = 1; i <= page_count; i++)
        emit(".TP\n.BR " pages[i] " (3)\n" titles[pages[i]] ".")
    close(file)
    exit failed
}
