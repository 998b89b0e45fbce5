# Part of man.awk: how comments and declarations become roff.
#
# --- roff ------------------------------------------------------------------------------------------------------------

# A line of a page. A paragraph does not begin where a section does.
function emit(line) {
    if (line ~ /^\.PP/ && before_it ~ /^\.S[HS] /) {
        if (line !~ /\n/) return
        sub(/^[^\n]*\n/, "", line)
    }
    before_it = line
    print line >file
}
function emit_lines(text) { sub(/\n$/, "", text); if (text != "") emit(text) }

function literal(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/\^/, "\\(ha", text)
    gsub(/~/, "\\(ti", text)
    gsub(/`/, "\\(ga", text)
    gsub(/'/, "\\(aq", text)
    return text
}

# A line of code: what would be taken for a request is not one.
function put_code(line) {
    line = literal(line)
    if (line ~ /^[.\\]/ && line !~ /^\\f/) line = "\\&" line
    emit(line)
}

# Fonts for the words that have one.
function marked(text, out_text, word, before, c, i, n, previous, next_one) {
    # A minus is not a hyphen.
    n = length(text)
    out_text = ""
    for (i = 1; i <= n; i++) {
        c = substr(text, i, 1)
        if (c == "-") {
            previous = i > 1 ? substr(text, i - 1, 1) : " "
            next_one = substr(text, i + 1, 1)
            if ((next_one ~ /[0-9]/ && previous !~ /[A-Za-z0-9]/) || (previous ~ /[ (]/ && next_one !~ /[ ]/)) c = "\001"
        }
        out_text = out_text c
    }
    text = out_text
    gsub(/\\/, "\\e", text)
    gsub(/\001/, "\\-", text)
    out_text = ""
    while (match(text, /`[^`]+`|[a-z_][A-Za-z0-9_]+\([1-8]\)|<[a-z\/_]+\.h>|\*[a-z]+\*|[A-Za-z_][A-Za-z0-9_]*/)) {
        before = substr(text, 1, RSTART - 1)
        word = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        out_text = out_text before
        if (before ~ /\\$/) { out_text = out_text word; continue }
        if (word ~ /^[`*]/) word = "\\fI" substr(word, 2, length(word) - 2) "\\fP"
        else if (word ~ /\)$/) {
            i = index(word, "(")
            refer(substr(word, 1, i - 1), substr(word, i + 1, 1))
            word = "\\fB" substr(word, 1, i - 1) "\\fP" substr(word, i)
        } else if (word ~ /^</) word = "\\fB" word "\\fP"
        else if (word in function_of) {
            c = function_of[word]
            if (c != page && sub(/^\(\)/, "", text)) text = text # "()" becomes "(3)"
            if (c != page && text !~ /^\(/) { refer(c, "3"); word = "\\fB" word "\\fP(3)" }
            else word = "\\fB" word "\\fP" (text ~ /^\(/ ? "" : "()")
        } else if (word ~ /^(mio_|MIO_)/) {
            if (word in page_of && page_of[word] != page) refer(page_of[word], "3")
            if (word in error_text) named[word] = 1
            word = "\\fB" word "\\fP"
        } else if (word in parameter && (word ~ /_/ || word ~ /^(cb|fd|buf|bufs|ptr|len|cap|addr|ids|fds|nfds|nbufs|n|arg|fn)$/)) {
            word = "\\fI" word "\\fP"
        }
        out_text = out_text word
    }
    return out_text text
}

function refer(what, section) {
    if (what == page) return
    referred[what "(" section ")"] = 1
}

# Prose, broken into lines of the source.
function put_wrapped(text, n, i, word, line) {
    n = split(marked(text), word, " ")
    line = ""
    for (i = 1; i <= n; i++) {
        if (line != "" && length(line) + 1 + length(word[i]) > 78) { put_line(line); line = "" }
        line = line (line == "" ? "" : " ") word[i]
        if (word[i] ~ /[^.][.!?]\)?$/ && word[i] !~ /e\.g\.$/) { put_line(line); line = "" }
    }
    if (line != "") put_line(line)
}
function put_line(line) {
    if (line ~ /^[.']/) line = "\\&" line
    emit(line)
}

# A comment: paragraphs, lists that are indented, and lines that were broken on purpose. between: what separates two
# paragraphs. The first one begins without.
function put_prose(text, between, n, i, line, paragraph, previous, begun, in_list, at, term) {
    n = split(text, line, "\n")
    paragraph = previous = ""
    begun = in_list = 0
    for (i = 1; i <= n + 1; i++) {
        if (i <= n && line[i] ~ /^  +[^ ]+  +[^ ]/) { # a term and its text
            if (paragraph != "") put_wrapped(paragraph)
            if (!in_list) emit(".RS")
            in_list = begun = 1
            term = paragraph = line[i]
            sub(/^ +/, "", term); sub(/  .*/, "", term)
            sub(/^ +[^ ]+ +/, "", paragraph)
            emit(".TP")
            put_line("\\fI" term "\\fP")
            previous = ""
            continue
        }
        if (!in_list && paragraph == "" && i <= n && line[i] ~ /^    /) { # a figure
            if (begun || previous != "") emit(between)
            emit(".RS\n.nf")
            for (; i <= n && line[i] ~ /^    /; i++) { sub(/^    /, "", line[i]); put_code(line[i]) }
            emit(".fi\n.RE")
            begun = 1
            previous = ""
            i--
            continue
        }
        if (in_list && i <= n && line[i] ~ /^    /) {
            sub(/^ +/, "", line[i])
            paragraph = paragraph " " line[i]
            continue
        }
        if (i > n || line[i] ~ /^ *$/ || in_list) {
            if (paragraph != "") put_wrapped(paragraph)
            if (in_list) emit(".RE")
            if (i <= n && paragraph != "") begun = 1
            in_list = 0
            paragraph = previous = ""
            if (i > n || line[i] ~ /^ *$/) continue
        }
        if (paragraph == "" && previous == "") {
            if (begun) { emit(between); begun = 0 }
        } else if (previous ~ /[.:;!?][)"]?$/ && deliberate(previous, line[i])) {
            put_wrapped(paragraph)
            emit(".br")
            paragraph = ""
        }
        paragraph = paragraph (paragraph == "" ? "" : " ") line[i]
        previous = line[i]
    }
}
# Was there room for the first word of the next line, or does that begin with a label?
function deliberate(previous, following) {
    if (following ~ /^(MIO_[A-Z0-9]+|[A-Z][a-z]+|[a-z_]+( [<>=]* ?-?[0-9])?): /) return 1
    sub(/ .*/, "", following)
    return length(previous) + length(following) < 104
}

# A declaration in lines that fit a terminal.
function put_declaration(decl, part, n, i, line, indent, open) {
    if (length(decl) <= 74) { put_decl_line(decl); return }
    n = split(decl, part, /, /)
    open = index(decl, "(")
    if (decl ~ /^typedef/) open = index(decl, ")(") + 1
    indent = open < 44 ? sprintf("%" open "s", "") : "        "
    line = ""
    for (i = 1; i <= n; i++) {
        if (i < n) part[i] = part[i] ","
        if (i == 1 && open >= 44) { # the name ends the first line
            put_decl_line(substr(part[1], 1, open))
            line = indent substr(part[1], open + 1)
        } else if (line != "" && length(line) + 1 + length(part[i]) > 74) {
            put_decl_line(line)
            line = indent part[i]
        } else line = line (line == "" ? "" : " ") part[i]
    }
    put_decl_line(line)
}
# Bold, but for the names of parameters.
function put_decl_line(line, out_text, word) {
    out_text = ""
    while (match(line, /[A-Za-z_][A-Za-z_0-9]*(,|\);|\)$)/)) {
        word = substr(line, RSTART, RLENGTH)
        sub(/[,);]+$/, "", word)
        out_text = out_text substr(line, 1, RSTART - 1)
        if (word == "void") out_text = out_text word
        else { out_text = out_text "\\fP\\fI" word "\\fP\\fB"; parameter[word] = 1 }
        line = substr(line, RSTART + length(word))
        match(line, /^[,);]+/)
        out_text = out_text substr(line, 1, RLENGTH)
        line = substr(line, RLENGTH + 1)
    }
    emit("\\fB" out_text line "\\fP")
}

# The lines of a struct or an enum: the declaration without comments, then what each member is.
function put_body(text, body, what, n, i, line, note, first_line, wait, open_note, member, count) {
    n = split(body, line, "\n")
    count = 0
    wait = ""
    open_note = 0
    emit(".PP\n.nf")
    for (i = 1; i <= n; i++) {
        if (open_note) { # the end of a comment that began above
            note = line[i]
            if (note ~ /\*\//) open_note = 0
            note = bare(note)
            if (open_note_before) wait = wait " " note
            else notes_of[count] = notes_of[count] " " note
            continue
        }
        note = ""
        if (line[i] ~ /^ *\/\*/) { # a comment before a member
            wait = bare(line[i])
            open_note = line[i] !~ /\*\//
            open_note_before = 1
            continue
        }
        if (match(line[i], /\/\*.*/)) {
            note = substr(line[i], RSTART)
            line[i] = substr(line[i], 1, RSTART - 1)
            open_note = note !~ /\*\//
            open_note_before = 0
            note = bare(note)
        }
        sub(/ +$/, "", line[i])
        if (i > 1 && i < n) {
            count++
            members[count] = line[i]
            notes_of[count] = wait (wait != "" && note != "" ? " " : "") note
            wait = ""
        }
        while (length(line[i]) > 78 && match(line[i], /^.*, /)) { # a long list of arguments
            if (RLENGTH < 30) break
            put_bold(substr(line[i], 1, RLENGTH - 1))
            line[i] = "            " substr(line[i], RLENGTH + 1)
        }
        if (line[i] != "") put_bold(line[i])
    }
    emit(".fi")
    if (text != "" || what in init_of) emit(".RS\n.PP")
    if (text != "") put_prose(text, ".PP")
    if (what in init_of) {
        if (text != "") emit(".PP")
        emit("Initialise it with \\fB" init_of[what] "\\fP.")
    }
    if (text != "" || what in init_of) emit(".RE")
    first_line = 1
    for (i = 1; i <= count; i++) {
        if (notes_of[i] == "") continue
        if (first_line) emit(".RS")
        first_line = 0
        member = members[i]
        if (match(member, /\(\*[a-z_]+\)/)) member = substr(member, RSTART + 2, RLENGTH - 3)
        else if (body ~ /^enum/) { sub(/^ +/, "", member); sub(/[ ,=].*/, "", member) }
        else { sub(/;.*/, "", member); member = names_of_members(member) }
        emit(".TP")
        emit("\\fB" literal(member) "\\fP")
        put_wrapped(notes_of[i])
    }
    if (!first_line) emit(".RE")
}
# "uint32_t links, uid, gid" has three.
function names_of_members(member, n, part, i, result) {
    n = split(member, part, /, */)
    result = ""
    for (i = 1; i <= n; i++) {
        sub(/\[.*/, "", part[i])
        sub(/.*[ *]/, "", part[i])
        result = result (i == 1 ? "" : ", ") part[i]
    }
    return result
}
function put_bold(line) { emit("\\fB" literal(line) "\\fP") }

function struct_name(body) {
    sub(/.*}/, "", body); sub(/;.*/, "", body); gsub(/ /, "", body)
    return body
}

function heading_of(text) {
    sub(/^--- /, "", text); sub(/ -+.*/, "", text)
    return text
}
function heading_text(text) {
    if (text !~ /\n/) return ""
    sub(/^[^\n]*\n/, "", text)
    return text
}

function put_macros(body, text, n, i, line, name, value, note) {
    n = split(body, line, "\n")
    if (text != "") { emit(".PP"); put_prose(text, ".PP"); emit(".RS") }
    for (i = 1; i < n; i++) {
        note = ""
        if (match(line[i], /\/\*.*/)) { note = bare(substr(line[i], RSTART)); line[i] = substr(line[i], 1, RSTART - 1) }
        value = line[i]
        sub(/^#define +/, "", value)
        name = value
        sub(/ .*/, "", name)
        sub(/^[^ ]+ +/, "", value); sub(/ +$/, "", value)
        if (value ~ /^\(.*\)$/ && value !~ /^\([^()]*\).*\(/) value = substr(value, 2, length(value) - 2)
        emit(".TP")
        emit("\\fB" name "\\fP  (" literal(value) ")")
        if (note != "") put_wrapped(note)
    }
    if (text != "") emit(".RE")
}

function put_types(i, pending, n, line, j) {
    pending = 0
    for (i = 1; i <= items[page]; i++) {
        if (kind[page, i] == "heading") { pending = i; continue }
        if (kind[page, i] == "function") continue
        if (!types_begun) emit(".SH TYPES AND CONSTANTS")
        types_begun = 1
        if (pending && pending == i - 1) {
            emit(".SS " toupper(substr(heading_of(words[page, pending]), 1, 1)) substr(heading_of(words[page, pending]), 2))
            if (heading_text(words[page, pending]) != "") put_prose(heading_text(words[page, pending]), ".PP")
        }
        if (kind[page, i] == "text") {
            if (code[page, i] != "") emit(".TP\n\\fB" code[page, i] "\\fP")
            else emit(".PP")
            put_prose(words[page, i], code[page, i] != "" ? ".IP" : ".PP")
        } else if (kind[page, i] == "macro") put_macros(code[page, i], words[page, i])
        else if (kind[page, i] == "type") {
            emit(".PP\n.nf")
            n = split(code[page, i], line, "\n")
            for (j = 1; j < n; j++) put_declaration(line[j])
            emit(".fi")
            if (words[page, i] != "" || has_note(line, n)) {
                emit(".RS\n.PP")
                if (words[page, i] != "") put_prose(words[page, i], ".PP")
                put_notes(line, n, words[page, i] != "")
                emit(".RE")
            }
        } else put_body(words[page, i], code[page, i], struct_name(code[page, i]))
    }
}

function put_functions(i, n, line, j, label) {
    for (i = 1; i <= items[page]; i++) {
        if (kind[page, i] == "heading" && kind[page, i + 1] == "function") {
            emit(".SS " toupper(substr(heading_of(words[page, i]), 1, 1)) substr(heading_of(words[page, i]), 2))
            if (heading_text(words[page, i]) != "") put_prose(heading_text(words[page, i]), ".PP")
        }
        if (kind[page, i] != "function") continue
        n = split(code[page, i], line, "\n")
        if (words[page, i] == "") { # each for itself
            for (j = 1; j < n; j++) {
                emit(".TP\n\\fB" name_of(line[j]) "\\fP()")
                put_wrapped(note_of[name_of(line[j])])
            }
            continue
        }
        emit(".TP")
        label = ""
        for (j = 1; j < n; j++) {
            if (j > 1 && length(label) + length(name_of(line[j])) > 70) { emit(label ","); emit(".TQ"); label = "" }
            label = label (label == "" ? "" : ", ") "\\fB" name_of(line[j]) "\\fP()"
        }
        emit(label)
        put_prose(words[page, i], ".IP")
        put_notes(line, n, 1)
    }
}

# What stands behind the declarations of a group.
function has_note(line, n, j) {
    for (j = 1; j < n; j++) if (name_of(line[j]) in note_of) return 1
    return 0
}
function put_notes(line, n, begun, j, name) {
    for (j = 1; j < n; j++) {
        name = name_of(line[j])
        if (!(name in note_of)) continue
        if (begun) emit(".br")
        put_wrapped(n == 2 && line[j] ~ /^typedef/ ? note_of[name] : name ": " note_of[name])
        begun = 1
    }
}
