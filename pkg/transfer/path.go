package transfer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Limits of paths, in octets.
const (
	MaxElement = 255  // NAME_MAX of Linux filesystems (limits.h)
	MaxPath    = 4096 // PATH_MAX of Linux (limits.h), counted without the root
	// StageDir is the receiver's private directory; nothing may be sent below it.
	StageDir = ".sluice"
)

// Path is a relative, "/"-separated path that passed ParsePath.
type Path string

// String returns the path as it was given.
func (p Path) String() string { return string(p) }

// Base returns the last element.
func (p Path) Base() string { return string(p[strings.LastIndexByte(string(p), '/')+1:]) }

// ParsePath judges a path by the security rules and, for Portable, by the
// portability rules. The error is Invalid, with a reason for a person.
func ParsePath(s string, names Names) (Path, error) {
	if reason := pathReason(s, names); reason != "" {
		return "", &Error{Kind: Invalid, Op: "check name", Path: s, Msg: reason}
	}
	return Path(s), nil
}

func pathReason(s string, names Names) string {
	switch {
	case s == "":
		return "the name is empty"
	case len(s) > MaxPath:
		return "the path is longer than 4,096 octets"
	case s[0] == '/':
		return "the path is absolute; only relative paths are accepted"
	case !utf8.ValidString(s):
		return "the name is not valid UTF-8"
	}
	rest, first := s, true
	for rest != "" || first {
		elem, tail, more := strings.Cut(rest, "/")
		if reason := elementReason(elem, names); reason != "" {
			return reason
		}
		if first && strings.EqualFold(elem, StageDir) {
			return "the name .sluice is reserved for the receiver"
		}
		if more && tail == "" {
			return "the path ends in a slash"
		}
		rest, first = tail, false
	}
	return ""
}

// ValidElement reports whether e may be one element of a path, but for the first.
func ValidElement(e string, names Names) bool {
	return utf8.ValidString(e) && !strings.Contains(e, "/") && elementReason(e, names) == ""
}

func elementReason(e string, names Names) string {
	switch {
	case e == "":
		return "the path has an empty element"
	case e == "." || e == "..":
		return "the path has the element " + e
	case len(e) > MaxElement:
		return "a name in the path is longer than 255 octets"
	}
	var n int
	for i := 0; i < len(e); i += n {
		r := rune(e[i])
		if n = 1; r >= utf8.RuneSelf { // most names have none
			r, n = utf8.DecodeRuneInString(e[i:])
		}
		if r < ' ' || r >= 0x7F && unicode.IsControl(r) {
			return "the name has a control character"
		}
		if r >= 0x061C && bidi(r) {
			return "the name has a bidirectional control character"
		}
	}
	if names == Portable {
		return portableReason(e)
	}
	return ""
}

// bidi reports the directional formatting characters of UAX #9 section 2.
func bidi(r rune) bool {
	return r == 0x061C || r == 0x200E || r == 0x200F || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// portableReason applies the naming rules of Win32 (Naming Files, Paths, and
// Namespaces, Microsoft Learn).
func portableReason(e string) string {
	if strings.ContainsAny(e, `\:*?"<>|`) {
		return `the name has a character that Windows does not allow (\ : * ? " < > |)`
	}
	if last := e[len(e)-1]; last == '.' || last == ' ' {
		return "the name ends in a dot or a space, which Windows drops"
	}
	base, _, _ := strings.Cut(e, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return "the name is reserved by Windows"
	}
	if r := []rune(base); len(r) == 4 && (strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")) {
		if strings.ContainsRune("0123456789¹²³", r[3]) {
			return "the name is reserved by Windows"
		}
	}
	return ""
}

// FoldKey returns the key under which two names collide on a filesystem that
// folds case and normalises: NFC of the case-folded form.
func FoldKey(p Path) string {
	return norm.NFC.String(cases.Fold().String(string(p)))
}
