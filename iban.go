package bankfeed

import "strings"

// ValidIBAN checks length, characters and check digits of an IBAN in its
// electronic form (ISO 13616; ISO 7064 mod 97-10).
func ValidIBAN(s string) bool {
	if len(s) < 15 || len(s) > 34 {
		return false
	}
	rest := 0
	for _, c := range []byte(s[4:] + s[:4]) {
		switch {
		case '0' <= c && c <= '9':
			rest = (rest*10 + int(c-'0')) % 97
		case 'A' <= c && c <= 'Z':
			rest = (rest*100 + int(c-'A') + 10) % 97
		default:
			return false
		}
	}
	return rest == 1
}

// Masked reports whether part of an account number without blanks is hidden: by
// stars, dots and the like, or by a run of X that is not part of a valid IBAN.
func Masked(number string) bool {
	if strings.ContainsAny(number, "*•…#") || strings.Contains(number, "..") {
		return true
	}
	upper := strings.ToUpper(number)
	return strings.Contains(upper, "XX") && !ValidIBAN(upper)
}

// MaskIBAN leaves the country and the last four characters of an IBAN
// (banqUP's form: PLxxxx1234). What is too short to hide anything is hidden but
// for the country.
func MaskIBAN(iban string) string {
	if len(iban) < 10 {
		return iban[:min(2, len(iban))] + "xxxx"
	}
	return iban[:2] + "xxxx" + iban[len(iban)-4:]
}
