package secret_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/secret"
)

// Examples of SWIFT's IBAN registry.
const (
	ibanDE = "DE89370400440532013000"
	ibanGB = "GB29NWBK60161331926819"
	ibanFR = "FR1420041010050500013M02606"
	ibanNO = "NO9386011117947"
	ibanMT = "MT84MALT011000012345MTLCAST001S"
)

func TestMaskIBAN(t *testing.T) {
	for in, want := range map[string]string{
		ibanDE:                        "DE****3000",
		"DE89 3704 0044 0532 0130 00": "DE****3000",
		strings.ToLower(ibanGB):       "gb****6819",
		"532013000":                   "****3000",
		"1234 5678 9012 3456":         "****3456",
		"12345678":                    "****",
		"":                            "****",
		"DE":                          "****",
	} {
		require.Equal(t, want, secret.MaskIBAN(in), in)
	}
}

func TestMaskText(t *testing.T) {
	for in, want := range map[string]string{
		ibanDE:                             "DE****3000",
		"account " + ibanDE + " is closed": "account DE****3000 is closed",
		ibanDE + "," + ibanGB + ";" + ibanFR + "\n" + ibanNO:                          "DE****3000,GB****6819;FR****2606\nNO****7947",
		"https://bank.example/v1/accounts/" + ibanDE + "/transactions?iban=" + ibanMT: "https://bank.example/v1/accounts/DE****3000/transactions?iban=MT****001S",
		`{"iban":"` + ibanDE + `"}`:                                                   `{"iban":"DE****3000"}`,
		"as on paper DE89 3704 0044 0532 0130 00 EUR 10.00":                           "as on paper DE****3000 EUR 10.00",
		"as on paper GB29 NWBK 6016 1331 9268 19.":                                    "as on paper GB****6819.",
		"in a URL q=DE89%203704%200044%200532%200130%2000&x":                          "in a URL q=DE****3000&x",
		"in a form q=DE89+3704+0044+0532+0130+00&x":                                   "in a form q=DE****3000&x",
		"web page DE89\u00a03704\u00a00044\u00a00532 0130 00":                         "web page DE****3000",
		"dashes DE89-3704-0044-0532-0130-00":                                          "dashes DE****3000",
		"lower case " + strings.ToLower(ibanDE):                                       "lower case de****3000",
		"inside a word ?31" + ibanDE + "EUR":                                          "inside a word ?31DE****3000EUR",
		`escaped \n` + ibanDE + `\n`:                                                  `escaped \nDE****3000\n`,
		"wrong check digits DE00370400440532013000":                                   "wrong check digits DE****3000",
		"wrong check digits DE00 3704 0044 0532 0130 00":                              "wrong check digits DE****3000",
		"too short DE893704004405320130":                                              "too short DE****0130",
		"unknown country ZZ00123456789012345":                                         "unknown country ZZ****2345",

		// What must stay readable.
		"session 01890a5d-ac96-774b-bcce-b302099a8057": "session 01890a5d-ac96-774b-bcce-b302099a8057",
		"trace de12abcd34567890de12abcd34567890":       "trace de12abcd34567890de12abcd34567890",
		"token DE00" + strings.Repeat("A", 31):         "token DE00" + strings.Repeat("A", 31),
		"BIC COBADEFFXXX":                              "BIC COBADEFFXXX",
		"EUR 12.50 at 2026-11-21T08:00:00Z":            "EUR 12.50 at 2026-11-21T08:00:00Z",
		"HTTP 429 from GET /v1/consents/12":            "HTTP 429 from GET /v1/consents/12",
		"masked DE****3000":                            "masked DE****3000",
		"an order AB12 3456":                           "an order AB12 3456",
		"":                                             "",
		"Überweisung an Frau Ähnlich für Öl 3":         "Überweisung an Frau Ähnlich für Öl 3",
	} {
		require.Equal(t, want, secret.MaskText(in), in)
	}
}

func FuzzMask(f *testing.F) {
	f.Add("", "")
	f.Add("account ", " is closed")
	f.Add("DE89 37", "0440532")
	f.Add(ibanNO, " 2026")
	f.Add("\xffDE", "\u00a0")
	f.Fuzz(func(t *testing.T, before, after string) {
		secret.MaskIBAN(before)
		secret.MaskText(before)
		for _, iban := range []string{ibanDE, ibanGB, ibanNO, strings.ToLower(ibanFR)} {
			if strings.Contains(before, iban[:12]) || strings.Contains(after, iban[:12]) {
				continue
			}
			if got := secret.MaskText(before + iban + after); strings.Contains(got, iban) {
				t.Fatalf("%q shows the IBAN", got)
			}
		}
	})
}
