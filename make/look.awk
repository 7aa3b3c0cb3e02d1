# The part of make/look that compares the targets' help with what was asked for. Prints `stop` and one line
# for what is wrong, otherwise what the machine must have, one word a line. `root` is the project's directory; the arguments
# are files of make -- goals -- NAME=VALUE. With `names_of`, a target, it prints the NAMEs that its help mentions, and no more.

BEGIN {
    read_arguments()
    for (i = 1; i <= file_count; i++) read_help(files[i])
    if (names_of != "") { print names[names_of]; exit }
    read_templates()
    for (i = 1; i <= goal_count; i++)
        if (goals[i] in is_target) { known = known " " goals[i]; own = own names[goals[i]] }
    for (i = 1; i <= goal_count; i++)
        if (!(goals[i] in is_target) && (near = meant(goals[i], all_targets)) != "") stop("there is no make " goals[i] near)
    if (known == "") exit  # make itself reports that there is no such target
    for (i = 1; i <= given_count; i++)
        if (!has(own names["*"], order[i]))
            stop("make" known " takes no " order[i] meant(order[i], own names["*"]) (own == "" ? "" : ". It takes " listed(own)))
    for (i = 1; i <= goal_count; i++) {
        count = split(names[goals[i]], list, " ")
        for (j = 1; j <= count; j++) check(goals[i], list[j], value_of(list[j]))
    }
    for (i = 1; i <= goal_count; i++) need(goals[i])
    print required
}

function read_arguments(    at, name) {
    for (at = 1; ARGV[at] != "--"; at++) files[++file_count] = ARGV[at]
    for (at++; ARGV[at] != "--"; at++) goals[++goal_count] = ARGV[at]
    for (at++; at < ARGC; at++) {
        name = before_equals(ARGV[at])
        given[name] = after_equals(ARGV[at])
        order[++given_count] = name
    }
}

function before_equals(text) { sub(/=.*/, "", text); return text }
function after_equals(text) { sub(/^[^=]*=/, "", text); return text }
function value_of(name) { return name in given ? given[name] : ENVIRON[name] }
function has(words, word) { return index(" " words " ", " " word " ") > 0 }

function stop(words) {
    print "stop " words
    exit
}

# ---- Reading

function read_help(file,    line, target) {
    while ((getline line < file) > 0)
        if (line ~ /^#\* /) take("*", line)
        else if (line ~ /^#\? /) take(target, line)
        else if (line ~ /^#! /) needs[target] = needs[target] " " substr(line, 4)
        else if (line ~ /^[a-z][a-z-]*:([^=]|$)/) { target = before_colon(line); read_target(target, line) }
    close(file)
}

function before_colon(text) { sub(/:.*/, "", text); return text }

function read_target(target, line,    first) {
    if (!(target in is_target)) all_targets = all_targets " " target
    is_target[target]
    if (line ~ / ## /) take(target, substr(line, index(line, " ## ")))
    first = line
    sub(/^[^:]*: */, "", first)
    sub(/#.*/, "", first)
    if (first !~ /=/) before[target] = before[target] " " first
    if (first ~ /_READY\)/) needs[target] = needs[target] " python"
}

# Every NAME= of a line of help, with the example that it gives.
function take(target, text,    found, name) {
    while (match(text, /[A-Za-z_][A-Za-z_0-9]*=[A-Za-z0-9_.\/-]*/)) {
        found = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        name = before_equals(found)
        if (name !~ /^[A-Z][A-Z_]*$/) continue
        if (!has(names[target], name)) names[target] = names[target] " " name
        if (example[target, name] == "") example[target, name] = after_equals(found)
    }
}

function read_templates(    line, name) {
    while ((getline line < (root "/template.yaml")) > 0 && line !~ /^Resources:/) {
        if (line ~ /^  [A-Za-z]+:$/) { name = line; gsub(/[ :]/, "", name) }
        if (line ~ /^    AllowedValues: \[/) {
            gsub(/.*\[|\].*|[^A-Za-z0-9_,-]/, "", line)
            gsub(/,/, " ", line)
            allowed[name] = line
        }
    }
    while ((getline line < (root "/samconfig.toml")) > 0)
        if (line ~ /^\[[^.]+\.deploy\.parameters\]/) { gsub(/^\[|\..*/, "", line); stages = stages " " line }
}

# ---- Checking

function check(goal, name, value,    sample, choices) {
    if (value == "") return
    sample = example[goal, name]
    if (sample ~ /^(yes|no)$/ && value !~ /^(yes|no|1|0)$/)
        stop(name "=" value " is neither yes nor no; use " name "=yes or " name "=no")
    if (sample ~ /^[0-9]+$/ && value !~ /^[0-9]+$/)
        stop(name "=" value " is not a whole number, such as " name "=" sample)
    choices = has(needs[goal], name "=") && name == "STAGE" ? stages : allowed[parameter(name)]
    if (choices != "" && !has(choices, value))
        stop(name "=" value " is not one of " listed(choices) meant(value, choices))
    if (sample ~ /^[a-z]+\//) check_paths(name, value)
}

# Files and folders of the project; what follows :: is a test in one of them, and patterns are for the shell.
function check_paths(name, value,    list, count, i) {
    count = split(value, list, /[ ,]+/)
    for (i = 1; i <= count; i++) {
        sub(/::.*/, "", list[i])
        if (list[i] != "" && list[i] !~ /[*?[]/ && system("test -e " quoted(list[i] ~ /^\// ? list[i] : root "/" list[i])))
            stop(name "=" value ": there is no " list[i])
    }
}

function quoted(text) { gsub(/'/, "'\\''", text); return "'" text "'" }

# The template writes TOPOLOGY as Topology, and PARTNER_PORT would be PartnerPort.
function parameter(name,    part, count, i, words) {
    count = split(tolower(name), part, "_")
    for (i = 1; i <= count; i++) words = words toupper(substr(part[i], 1, 1)) substr(part[i], 2)
    return words
}

# What a goal and all its prerequisites need: `make check` consists of its prerequisites alone.
function need(goal,    list, count, i) {
    if (goal in needed) return
    needed[goal]
    count = split(needs[goal], list, " ")
    for (i = 1; i <= count; i++)
        if (list[i] !~ /=/) required = required " " list[i]
        else if (!is_given(list[i])) stop("make " goal " needs " spoken(list[i]) samples(goal, list[i]))
    count = split(before[goal], list, " ")
    for (i = 1; i <= count; i++) need(list[i])
}

# Whether one of A=|B= has a value.
function is_given(wanted,    list, count, i) {
    count = split(wanted, list, "|")
    for (i = 1; i <= count; i++) if (value_of(before_equals(list[i])) != "") return 1
    return 0
}

function spoken(wanted) { gsub(/=\|/, "= or ", wanted); return wanted }

function samples(goal, wanted) {
    wanted = before_equals(wanted)
    if (wanted == "STAGE") return ", one of " listed(stages)
    return example[goal, wanted] == "" ? "" : ", such as " wanted "=" example[goal, wanted]
}

# ---- Words

function listed(words) {
    gsub(/^ +| +$/, "", words)
    gsub(/ +/, ", ", words)
    return words
}

function meant(word, words,    list, count, i, far, best, found) {
    best = 1 + length(word) / 3
    count = split(words, list, " ")
    for (i = 1; i <= count; i++)
        if ((far = distance(toupper(word), toupper(list[i]))) <= best && (found == "" || far < best)) { best = far; found = list[i] }
    return found == "" ? "" : " (did you mean " found "?)"
}

# The Damerau-Levenshtein distance: how many letters to insert, delete, change or swap with the next.
function distance(a, b,    i, j, d) {
    for (i = 0; i <= length(a); i++) d[i, 0] = i
    for (j = 0; j <= length(b); j++) d[0, j] = j
    for (i = 1; i <= length(a); i++)
        for (j = 1; j <= length(b); j++) {
            d[i, j] = least(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (substr(a, i, 1) != substr(b, j, 1)))
            if (i > 1 && j > 1 && substr(a, i - 1, 2) == substr(b, j, 1) substr(b, j - 1, 1))
                d[i, j] = least(d[i, j], d[i - 2, j - 2] + 1, d[i, j])
        }
    return d[length(a), length(b)]
}

function least(a, b, c) { return a < b ? (a < c ? a : c) : (b < c ? b : c) }
