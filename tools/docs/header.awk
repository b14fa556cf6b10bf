# Filters the header for doxygen: turns the tables of the comments into doxygen commands. It keeps the lines,
# so that a warning names the line of the header.

NR == 1 { print "/** @file */ /** @mainpage"; manual = 1; next }
manual && /^ \*\// { manual = 0 }
manual {
    # "Linking. The library is named discover": each paragraph of the manual begins with a title.
    if (match($0, /^ \* [A-Z][a-z]+\. /)) {
        title = substr($0, 4, RLENGTH - 5)
        $0 = " * **" title ".** " substr($0, RLENGTH + 1)
    }
    print
    next
}

# "timeout_ms  [in]  how long": two spaces separate a parameter, or a quoted value, from its description.
/^ \* [a-z_]+  / { sub(/^ \* /, " * @param ") }
/^ \*   "[a-z0-9_]+"  / { sub(/^ \*   /, " * - ") }
# "Returns [owned]" states ownership; a sentence that begins with "Returns" stays as it is.
/^ \* Returns \[/ { sub(/^ \* Returns /, " * @return ") }
/^ \* (Errors|Threads|Release): / { $0 = bold_title($0) }
# Continuation lines are aligned with the description, which doxygen would take for code.
/^ \*      +/ { sub(/^ \* +/, " *   ") }
{ print }

function bold_title(line,    at) {
    at = index(line, ":")
    return " * **" substr(line, 4, at - 3) "**" substr(line, at + 1)
}
