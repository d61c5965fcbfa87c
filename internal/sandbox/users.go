package sandbox

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Password and Code work for every test user, except where the user's flaw is about them.
const (
	Password = "sandbox"
	Code     = "123456"
)

const (
	personal = "personal"
	business = "business"
)

// flaw is what is wrong with a test user from the start. The event "clear"
// takes it away, "reset" brings it back.
type flaw string

const (
	flawNone           flaw = ""
	flawMethods        flaw = "methods"
	flawWrongPassword  flaw = "wrong-password"
	flawPasswordChange flaw = "password-change"
	flawUserAction     flaw = "user-action"
	flawWrongCode      flaw = "wrong-code"
	flawLateCode       flaw = "late-code"
	flawTokenExpired   flaw = "token-expired"
	flawConsentExpired flaw = "consent-expired"
	flawConsentRevoked flaw = "consent-revoked"
	flawRateLimit      flaw = "rate-limit"
	flawRateLimitText  flaw = "rate-limit-text"
	flawMutatingList   flaw = "mutating-list"
	flawPending        flaw = "pending"
	flawBankDown       flaw = "bank-down"
	flawSlow           flaw = "slow"
	flawMultiCurrency  flaw = "multi-currency"
	flawNoIDs          flaw = "no-ids"
	flawDuplicateIDs   flaw = "duplicate-ids"
	flawChangingIDs    flaw = "changing-ids"
	flawShortHistory   flaw = "short-history"
	flawNonsense       flaw = "nonsense"
	flawBig            flaw = "big"
)

const (
	slowDelayMS      = 2000
	mutatingPageSize = 25
	shortHistoryDays = 89
	bigTotal         = 100_000
	maxBig           = 10_000_000
	maxNumberedUsers = 1_000_000
	// afterSyncGrace is how long reads still belong to a sync that has read all lists.
	afterSyncGrace = 30 * time.Second
)

// testUser is one login of the bank, the same on both channels.
type testUser struct {
	Login    string `json:"login"`
	Password string `json:"password"`
	Code     string `json:"code"`
	Segment  string `json:"segment"` // personal or business: whose API and whose page
	Does     string `json:"behaviour"`
	flaw     flaw
	owner    string
	methods  []scaMethod
	total    int // entries of the index-based account; 0 for others
}

var (
	methodSMS  = scaMethod{Type: "SMS_OTP", ID: "sms", Name: "SMS to +49 170 xxxxx 28"}
	methodPush = scaMethod{Type: "PUSH_OTP", ID: "app", Name: "WBX app on Pixel"}
	methodChip = scaMethod{Type: "PHOTO_OTP", ID: "photo", Name: "Photo TAN reader"}
)

// namedUsers are the test users in the order the index page shows them.
var namedUsers = []testUser{
	{Login: "fine", owner: "Ada Fein", Does: "Everything works. One SCA method. `fine-1` to `fine-1000000` are further users of the same kind, each with data of its own."},
	{Login: "methods", owner: "Mia Wahl", flaw: flawMethods, Does: "Everything works; has three SCA methods (sms, app, photo), so one must be selected."},
	{Login: "multi-currency", owner: "Max Devisen", flaw: flawMultiCurrency, Does: "Everything works; a USD account under the IBAN of the EUR account, a JPY account (no decimals) and a KWD account (three decimals)."},
	{Login: "wrong-password", owner: "Willi Falsch", flaw: flawWrongPassword, Does: "Every password is refused: 401 PSU_CREDENTIALS_INVALID. After three tries the authorisation has failed. `clear` heals."},
	{Login: "password-change", owner: "Paula Neu", flaw: flawPasswordChange, Does: "The right password is answered with 401 PSU_CREDENTIALS_INVALID, \"" + textPasswordExpired + "\", until `clear`."},
	{Login: "user-action", owner: "Urs Muss", flaw: flawUserAction, Does: "The right password is answered with 403 SERVICE_BLOCKED, \"" + textActionRequired + "\", until `clear`."},
	{Login: "wrong-code", owner: "Carl Code", flaw: flawWrongCode, Does: "Every one-time code is refused: 400 SCA_INVALID, after three tries scaStatus failed."},
	{Login: "late-code", owner: "Lena Spaet", flaw: flawLateCode, Does: "Every one-time code comes too late: 400 SCA_INVALID and scaStatus failed at the first try."},
	{Login: "token-expired", owner: "Toni Token", flaw: flawTokenExpired, Does: "The first sync works, then reads are answered with 401 TOKEN_EXPIRED until a new consent."},
	{Login: "consent-expired", owner: "Eva Ablauf", flaw: flawConsentExpired, Does: "The first sync works, then the consent is expired: 401 CONSENT_EXPIRED."},
	{Login: "consent-revoked", owner: "Rosa Widerruf", flaw: flawConsentRevoked, Does: "The first sync works, then the consent is revoked by the PSU: 401 CONSENT_INVALID, status revokedByPsu."},
	{Login: "rate-limit", owner: "Rita Grenze", flaw: flawRateLimit, Does: "The rule that all users have, easy to name: four unattended accesses per consent, account and kind in 24 hours, then 429 ACCESS_EXCEEDED with Retry-After."},
	{Login: "rate-limit-text", owner: "Theo Text", flaw: flawRateLimitText, Does: "One unattended access only, then 429 without Retry-After, the reason in the text: \"" + textHUB046 + "\"."},
	{Login: "mutating-list", owner: "Moritz Wandel", flaw: flawMutatingList, Does: "Pages of 25. Once a day per account a new entry is put in front when a page after the first is read, so that all others move by one place."},
	{Login: "pending", owner: "Peter Schwebe", flaw: flawPending, Does: "Many pending entries. The next day they are booked under another id; one with another amount and text, one never."},
	{Login: "bank-down", owner: "Bea Aus", flaw: flawBankDown, Does: "SCA works, every read is answered with 503 until `clear`."},
	{Login: "slow", owner: "Slobodan Lang", flaw: flawSlow, Does: "Every call takes 2 seconds, or what the event `slow` says."},
	{Login: "big", owner: "Greta Gross", flaw: flawBig, total: bigTotal, Does: "One account with exactly 100,000 booked entries in the last 50 days, pages of 500. `big-N` has N entries (N a multiple of 50, up to 10,000,000)."},
	{Login: "no-ids", owner: "Nora Namenlos", flaw: flawNoIDs, Does: "Entries without transactionId and entryReference, or with blank ones; two equal coffees every day."},
	{Login: "duplicate-ids", owner: "Doris Doppel", flaw: flawDuplicateIDs, Does: "Card payments all carry the id NOTPROVIDED, the other entries of a day share one id."},
	{Login: "changing-ids", owner: "Chris Chaos", flaw: flawChangingIDs, Does: "transactionId and entryReference differ at every fetch."},
	{Login: "short-history", owner: "Kurt Kurz", flaw: flawShortHistory, Does: "dateFrom more than 89 days ago is answered with 400 PERIOD_INVALID."},
	{Login: "nonsense", owner: "Nina Unsinn", flaw: flawNonsense, Does: "Transaction listings are answered with 200 and an HTML page."},
	{Login: "business", owner: "Kontor Nord GmbH", Segment: business, Does: "A business user: everything works, on the business APIs and the business SCA page only. `business-1` to `business-1000000` are further ones."},
}

// lookupUser finds a test user by login; families of numbered users are unlimited in practice.
func lookupUser(login string) (testUser, bool) {
	for _, u := range namedUsers {
		if u.Login == login {
			return u.complete(), true
		}
	}
	family, number, ok := cutLast(login, "-")
	if !ok || number == "" || number[0] == '0' {
		return testUser{}, false
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return testUser{}, false
	}
	switch {
	case family == "fine" && n <= maxNumberedUsers:
		return testUser{Login: login, owner: fmt.Sprintf("Ada Fein %d", n), Does: "As `fine`."}.complete(), true
	case family == "business" && n <= maxNumberedUsers:
		return testUser{Login: login, owner: fmt.Sprintf("Kontor Nord %d GmbH", n), Segment: business, Does: "As `business`."}.complete(), true
	case family == "big" && n%bulkDays == 0 && n <= maxBig:
		return testUser{Login: login, owner: "Greta Gross", flaw: flawBig, total: n, Does: "As `big`."}.complete(), true
	}
	return testUser{}, false
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (u testUser) complete() testUser {
	u.Password, u.Code = Password, Code
	if u.Segment == "" {
		u.Segment = personal
	}
	u.methods = []scaMethod{methodSMS}
	if u.flaw == flawMethods {
		u.methods = []scaMethod{methodSMS, methodPush, methodChip}
	}
	return u
}

// has reports whether u's built-in flaw is f and has not been healed.
func (u testUser) has(f flaw, us *userState) bool { return u.flaw == f && !us.Healed }
