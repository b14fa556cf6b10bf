# Shows doxygen the header: what is a table for people becomes the commands for it. Line for line, so
# that a warning names the line of the header.

NR == 1 { print "/** @file */ /** @mainpage"; manual = 1; next }
manual && /^ \*\// { manual = 0 }
manual {
    # "Linking. The library is called discover": each of the manual's paragraphs has its word.
    if (match($0, /^ \* [A-Z][a-z]+\. /)) {
        word = substr($0, 4, RLENGTH - 5)
        $0 = " * **" word ".** " substr($0, RLENGTH + 1)
    }
    print
    next
}

# "timeout_ms  [in]  how long": a parameter is set apart from what is said of it, a policy in its quotes.
/^ \* [a-z_]+  / { sub(/^ \* /, " * @param ") }
/^ \*   "[a-z0-9_]+"  / { sub(/^ \*   /, " * - ") }
/^ \* Returns / { sub(/^ \* Returns /, " * @return ") }
/^ \* (Threads|Release): / { $0 = gensub_word($0) }
# What follows under a parameter is aligned with it, which would make it a piece of code.
/^ \*      +/ { sub(/^ \* +/, " *   ") }
{ print }

function gensub_word(line,    at) {
    at = index(line, ":")
    return " * **" substr(line, 4, at - 3) "**" substr(line, at + 1)
}
