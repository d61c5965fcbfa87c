package secret

import "strings"

// MaskIBAN shortens an account identifier for logs to what helps to recognise
// it: the country of an IBAN and the last four characters (DE****3000). Of
// anything shorter than nine characters nothing is left.
func MaskIBAN(s string) string {
	compact := make([]byte, 0, maxIBAN)
	for i := 0; i < len(s); i++ {
		if isAlnum(s[i]) {
			compact = append(compact, s[i])
		}
	}
	if len(compact) < 9 {
		return "****"
	}
	country := ""
	if isLetter(compact[0]) && isLetter(compact[1]) && isDigit(compact[2]) && isDigit(compact[3]) {
		country = string(compact[:2])
	}
	return country + "****" + string(compact[len(compact)-4:])
}

// MaskText masks everything in a text that looks like an IBAN, for bank
// messages, URLs and the like on their way into a log. It would rather mask
// too much:
//
//   - with valid check digits: in either case, with separators anywhere, and
//     also as part of a longer word;
//   - without: in capitals as a word of its own, or in groups of four.
func MaskText(s string) string {
	var out strings.Builder
	done := 0
	for i := 0; i+minIBAN <= len(s); i++ {
		if !isLetter(s[i]) || !isLetter(s[i+1]) {
			continue
		}
		end := checkedIBAN(s, i) // knows best where it ends
		if end == 0 {
			end = max(bareIBAN(s, i), groupedIBAN(s, i))
		}
		if end == 0 {
			continue
		}
		out.WriteString(s[done:i])
		out.WriteString(MaskIBAN(unescapeSpace(s[i:end])))
		done, i = end, end-1
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}

const (
	minIBAN = 15 // Norway
	maxIBAN = 34 // ISO 13616
)

// ibanLengths holds country and length of each IBAN format in SWIFT's registry.
const ibanLengths = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18" +
	"FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24" +
	"ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28" +
	"TL23TN24TR26UA29VA22VG24XK20YE30"

var ibanLength = func() map[[2]byte]int {
	m := make(map[[2]byte]int)
	for i := 0; i < len(ibanLengths); i += 4 {
		m[[2]byte{ibanLengths[i], ibanLengths[i+1]}] = int(ibanLengths[i+2]-'0')*10 + int(ibanLengths[i+3]-'0')
	}
	return m
}()

// checkedIBAN returns the end of an IBAN with valid check digits that begins at
// i, or 0. One separator may stand between any two characters.
func checkedIBAN(s string, i int) int {
	n := ibanLength[[2]byte{upper(s[i]), upper(s[i+1])}]
	if n == 0 {
		return 0
	}
	var compact [maxIBAN]byte
	got := 0
	for got < n && i < len(s) {
		if !isAlnum(s[i]) {
			sep := separator(s[i:])
			if i += sep; sep == 0 || i == len(s) || !isAlnum(s[i]) {
				return 0
			}
		}
		compact[got] = upper(s[i])
		if (got == 2 || got == 3) && !isDigit(s[i]) {
			return 0
		}
		got++
		i++
	}
	if got < n || !validCheckDigits(compact[:n]) {
		return 0
	}
	return i
}

// bareIBAN returns the end of a word in capitals at i that has the shape of an
// IBAN, or 0.
func bareIBAN(s string, i int) int {
	if !startsIBAN(s, i) {
		return 0
	}
	end := i
	for end < len(s) && end < i+maxIBAN && isCapital(s[end]) {
		end++
	}
	if end-i < minIBAN || end < len(s) && isAlnum(s[end]) {
		return 0
	}
	return end
}

// groupedIBAN returns the end of an IBAN at i that is written in groups of four
// as on paper, or 0. Every group from the third on holds a digit; that keeps
// most of the words that follow out of it.
func groupedIBAN(s string, i int) int {
	if !startsIBAN(s, i) {
		return 0
	}
	end, got := i+4, 4
	for got < maxIBAN && end < len(s) && s[end] == ' ' {
		g, digits := end+1, 0
		for g < len(s) && g < end+6 && isCapital(s[g]) {
			if isDigit(s[g]) {
				digits++
			}
			g++
		}
		n := g - end - 1
		if n == 0 || n > 4 || digits == 0 && got > 4 || g < len(s) && isAlnum(s[g]) {
			break
		}
		got += n
		end = g
		if n < 4 {
			break
		}
	}
	if got < minIBAN {
		return 0
	}
	return end
}

// startsIBAN reports whether a word begins at i with two capitals and two
// digits.
func startsIBAN(s string, i int) bool {
	return i+4 <= len(s) && (i == 0 || !isAlnum(s[i-1])) &&
		isCapital(s[i]) && isLetter(s[i]) && isCapital(s[i+1]) && isLetter(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3])
}

// validCheckDigits is MOD 97-10 of ISO 7064, as ISO 13616 applies it.
func validCheckDigits(iban []byte) bool {
	rest := 0
	for i := range iban {
		c := iban[(i+4)%len(iban)] // the first four characters come last
		if isDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest == 1
}

// separators between the characters of an IBAN: as typed, with the no-break
// spaces of web pages, and as a space looks in a URL.
var separators = []string{" ", "-", ".", "+", "_", "\u00a0", "\u202f", "%20"}

// separator returns the length of the separator that s begins with, or 0.
func separator(s string) int {
	for _, sep := range separators {
		if strings.HasPrefix(s, sep) {
			return len(sep)
		}
	}
	return 0
}

// unescapeSpace keeps the digits of %20 out of the last four characters.
func unescapeSpace(s string) string { return strings.ReplaceAll(s, "%20", "") }

func isDigit(c byte) bool   { return '0' <= c && c <= '9' }
func isLetter(c byte) bool  { return 'A' <= upper(c) && upper(c) <= 'Z' }
func isAlnum(c byte) bool   { return isDigit(c) || isLetter(c) }
func isCapital(c byte) bool { return isDigit(c) || 'A' <= c && c <= 'Z' }

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}
