package berlingroup_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/connector"
	"github.com/bankfeed/bankfeed/internal/connector/connectortest"
)

// recordedBanks runs f for each directory of recordings.
func recordedBanks(t *testing.T, f func(t *testing.T, dir string, list []connectortest.Recording)) {
	root := filepath.Join(backingtest.SpecDir(t), "aspsp-recordings")
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	banks := 0
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		list := connectortest.Load(t, dir)
		if len(list) == 0 {
			continue // bare bodies, see TestBareBodies
		}
		banks++
		t.Run(e.Name(), func(t *testing.T) { f(t, dir, list) })
	}
	require.NotZero(t, banks)
}

func replayAccess(t *testing.T, dir string, mode bankfeed.Mode) connector.Access {
	server := connectortest.Replay(t, dir, mode)
	return connector.Access{
		Profile: &connector.Profile{Endpoints: []connector.Endpoint{{Mode: mode, BaseURL: server.URL}}},
		Mode:    mode, PSU: &bankfeed.PSU{IP: "192.0.2.7"},
		Grant: bankfeed.Grant{ConsentID: "stored"},
	}
}

// TestRequestsFollowTheStandard says when the requests of this package's tests
// are not held against the OpenAPI file.
func TestRequestsFollowTheStandard(t *testing.T) {
	connectortest.NewValidator(t, connectortest.BerlinGroup(t, backingtest.SpecDir(t)))
}

// TestReadRecordedBanks reads each recorded bank over both channels and
// compares with what a plain walk through the recorded JSON finds.
func TestReadRecordedBanks(t *testing.T) {
	recordedBanks(t, func(t *testing.T, dir string, list []connectortest.Recording) {
		for _, mode := range []bankfeed.Mode{bankfeed.Redirect, bankfeed.Embedded} {
			t.Run(string(mode), func(t *testing.T) {
				c, a := connect(t, ""), replayAccess(t, dir, mode)
				page, err := c.Accounts(t.Context(), a, "")
				require.NoError(t, err)
				require.False(t, page.More)
				want := recorded(list, mode, func(doc map[string]any) bool { return doc["accounts"] != nil })
				require.NotNil(t, want, "every recorded bank has an account list")
				require.Equal(t, accountLines(want), lines(page.Accounts, accountLine))

				for _, acc := range page.Accounts {
					about := func(doc map[string]any) bool {
						ref, _ := doc["account"].(map[string]any)
						return ref != nil && ref["iban"] == acc.IBAN()
					}
					ref := connector.AccountRef{ResourceID: acc.ResourceID, Currency: acc.Currency}

					balances, err := c.Balances(t.Context(), a, ref)
					want := recorded(ofOperation(list, "get-balances"), mode, about)
					if want == nil {
						require.Equal(t, http.StatusNotFound, refused(t, err, bankfeed.FailAccount).Status)
					} else {
						require.NoError(t, err)
						require.Equal(t, balanceLines(want), lines(balances, balanceLine))
					}

					got, err := c.Transactions(t.Context(), a, ref, connector.TransactionQuery{From: "2017-01-01"})
					want = recorded(ofOperation(list, "get-transactions"), mode, about)
					switch {
					case want == nil && len(page.Accounts) == 1: // recorded, and not JSON
						refused(t, err, bankfeed.FailFormat)
					case want == nil:
						require.Equal(t, http.StatusNotFound, refused(t, err, bankfeed.FailAccount).Status)
					case want["transactions"] == nil: // a link to a file instead
						refused(t, err, bankfeed.FailFormat)
					default:
						require.NoError(t, err)
						require.Equal(t, transactionLines(want), lines(got.Transactions, transactionLine))
						require.Equal(t, balanceLines(want), lines(got.Balances, balanceLine))
						require.False(t, got.More)
					}
				}
			})
		}
	})
}

// TestAuthoriseRecordedBanks goes the way that each recorded bank offers, to
// its end.
func TestAuthoriseRecordedBanks(t *testing.T) {
	recordedBanks(t, func(t *testing.T, dir string, list []connectortest.Recording) {
		for _, mode := range []bankfeed.Mode{bankfeed.Redirect, bankfeed.Embedded} {
			start := recorded(ofOperation(list, "create-consent"), mode, func(doc map[string]any) bool { return doc["consentId"] != nil })
			if start == nil {
				continue
			}
			links := start["_links"].(map[string]any)
			has := func(names ...string) bool {
				for _, n := range names {
					if links[n] != nil {
						return true
					}
				}
				return false
			}
			t.Run(string(mode), func(t *testing.T) {
				c, a := connect(t, ""), replayAccess(t, dir, mode)
				a.Grant = bankfeed.Grant{}
				r := asked
				r.PSUID = "psu"
				step, err := c.CreateConsent(t.Context(), a, r)
				require.Equal(t, start["consentId"], string(step.Grant.ConsentID))
				a.Grant = step.Grant
				switch {
				case has("scaRedirect"):
					require.NoError(t, err)
					require.NotEmpty(t, step.RedirectURL)
				case has("scaOAuth", "startAuthorisationWithEncryptedPsuAuthentication") || mode == bankfeed.Redirect:
					refused(t, err, bankfeed.FailFormat)
					return
				default:
					require.NoError(t, err)
					embedded(t, c, &a, step)
				}
				info, err := c.ConsentStatus(t.Context(), a)
				require.NoError(t, err)
				require.Equal(t, connector.ConsentValid, info.State)
				require.NoError(t, c.DeleteConsent(t.Context(), a))
			})
		}
	})
}

// embedded answers whatever a bank asks until it asks no more.
func embedded(t *testing.T, c connector.Connector, a *connector.Access, step connector.ConsentStep) {
	var kinds []bankfeed.ChallengeKind
	for !step.Done {
		require.NotNil(t, step.Challenge)
		kinds = append(kinds, step.Challenge.Kind)
		var in connector.Input
		switch step.Challenge.Kind {
		case bankfeed.ChallengeCredentials:
			in.Password = "geheim"
		case bankfeed.ChallengeMethodChoice:
			require.Greater(t, len(step.Challenge.Methods), 1)
			require.NotEmpty(t, step.Challenge.Methods[1].Name)
			in.MethodID = step.Challenge.Methods[1].ID
		case bankfeed.ChallengeCode:
			require.NotEmpty(t, step.Challenge.Method)
			in.Code = "123456"
		default:
			require.Fail(t, "unexpected challenge", step.Challenge.Kind)
		}
		a.Grant = step.Grant
		var err error
		step, err = c.Continue(t.Context(), *a, in)
		require.NoError(t, err)
	}
	require.Equal(t, []bankfeed.ChallengeKind{bankfeed.ChallengeCredentials, bankfeed.ChallengeMethodChoice, bankfeed.ChallengeCode}, kinds)
	a.Grant = step.Grant
}

// TestBareBodies reads the recordings that are a body and nothing else.
func TestBareBodies(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(backingtest.SpecDir(t), "aspsp-recordings", "*", "*.json"))
	require.NoError(t, err)
	read := 0
	for _, name := range files {
		if strings.HasSuffix(name, ".mt940-expected.json") {
			continue // what a parser of MT940 should find, no bank's answer
		}
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		doc := document(string(data))
		if doc == nil || doc["request"] != nil {
			continue
		}
		read++
		t.Run(filepath.Base(name), func(t *testing.T) {
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(bytes.ReplaceAll(data, []byte("http://127.0.0.1:20014"), []byte(server.URL)))
			}))
			defer server.Close()
			a := connector.Access{
				Profile: &connector.Profile{Endpoints: []connector.Endpoint{{Mode: bankfeed.Redirect, BaseURL: server.URL}}},
				Mode:    bankfeed.Redirect, PSU: &bankfeed.PSU{IP: "192.0.2.7"}, Grant: bankfeed.Grant{ConsentID: "stored"},
			}
			c := connect(t, "")
			switch {
			case doc["accounts"] != nil:
				page, err := c.Accounts(t.Context(), a, "")
				require.NoError(t, err)
				require.Equal(t, accountLines(doc), lines(page.Accounts, accountLine))
			case doc["transactions"] != nil:
				page, err := c.Transactions(t.Context(), a, connector.AccountRef{ResourceID: "r"}, connector.TransactionQuery{From: "2017-01-01"})
				require.NoError(t, err)
				require.Equal(t, transactionLines(doc), lines(page.Transactions, transactionLine))
				require.Equal(t, balanceLines(doc), lines(page.Balances, balanceLine))
			case doc["consentId"] != nil:
				step, err := c.CreateConsent(t.Context(), a, asked)
				require.NoError(t, err)
				require.Equal(t, at(doc, "_links", "scaRedirect", "href"), step.RedirectURL)
			case doc["authorisationId"] != nil:
				a.Grant.State = bankfeed.Secret(`{"links":{"startAuthorisation":"` + server.URL + `/v1/consents/x/authorisations"}}`)
				step, err := c.Continue(t.Context(), a, connector.Input{})
				require.NoError(t, err)
				require.Equal(t, at(doc, "_links", "scaRedirect", "href"), step.RedirectURL)
				require.Equal(t, doc["authorisationId"], string(step.Grant.AuthorisationID))
			default:
				require.Fail(t, "a body of an unknown kind")
			}
		})
	}
	require.NotZero(t, read)
}

// Below: the plain walk. Documents are read into maps, numbers as text.

func document(s string) (doc map[string]any) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		return nil
	}
	return doc
}

func ofOperation(list []connectortest.Recording, operation string) (out []connectortest.Recording) {
	for _, r := range list {
		if strings.TrimSuffix(r.Operation, "-redirect") == operation {
			out = append(out, r)
		}
	}
	return out
}

// recorded finds the body of a channel that passes a test.
func recorded(list []connectortest.Recording, mode bankfeed.Mode, test func(map[string]any) bool) map[string]any {
	var general map[string]any
	for _, r := range list {
		doc := document(r.Response.Body)
		if doc == nil || !test(doc) {
			continue
		}
		if !strings.HasSuffix(r.Operation, "-redirect") {
			general = doc
		} else if mode == bankfeed.Redirect {
			return doc
		}
	}
	return general
}

// at follows keys; what is missing or null is "".
func at(v any, keys ...string) string {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func each(v any, key string) []any {
	m, _ := v.(map[string]any)
	list, _ := m[key].([]any)
	return list
}

func lines[T any](list []T, line func(T) string) []string {
	out := []string{}
	for _, v := range list {
		out = append(out, line(v))
	}
	return out
}

func accountLines(doc map[string]any) []string {
	return lines(each(doc, "accounts"), func(v any) string {
		return fmt.Sprint(at(v, "resourceId"), at(v, "iban"), at(v, "bban"), at(v, "currency"), at(v, "name"), at(v, "ownerName"), at(v, "product"),
			at(v, "cashAccountType"), at(v, "status"), at(v, "bic"), at(v, "usage"), balanceLines(v.(map[string]any)))
	})
}

func accountLine(a connector.Account) string {
	return fmt.Sprint(a.ResourceID, a.IBAN(), a.Identifier(bankfeed.IdentBBAN), a.Currency, a.Name, a.OwnerName, a.Product,
		a.BankType, a.BankStatus, a.BIC, a.Usage, lines(a.Balances, balanceLine))
}

func balanceLines(doc map[string]any) []string {
	return lines(each(doc, "balances"), func(v any) string {
		return fmt.Sprint(at(v, "balanceType"), at(v, "balanceAmount", "amount"), at(v, "balanceAmount", "currency"), at(v, "referenceDate"), at(v, "lastChangeDateTime") != "")
	})
}

func balanceLine(b bankfeed.Balance) string {
	if !b.FetchedAt.Equal(now) {
		return "not stamped"
	}
	return fmt.Sprint(b.Type, b.Money.Amount, b.Money.Currency, b.ReferenceDate, b.LastChangeAt != nil)
}

// transactionLines lists booked and pending in the order of the document's
// keys, which a map loses: booked first, as all recordings have it.
func transactionLines(doc map[string]any) []string {
	out := []string{}
	for _, status := range []string{"booked", "pending", "information"} {
		for _, v := range each(doc["transactions"], status) {
			var remittance []string
			for _, s := range append([]any{v.(map[string]any)["remittanceInformationUnstructured"]}, each(v, "remittanceInformationUnstructuredArray")...) {
				if s != nil {
					remittance = append(remittance, fmt.Sprint(s))
				}
			}
			out = append(out, fmt.Sprint(status, at(v, "transactionId"), at(v, "entryReference"), at(v, "endToEndId"), at(v, "bookingDate"), at(v, "valueDate"),
				at(v, "transactionAmount", "amount"), at(v, "transactionAmount", "currency"), at(v, "creditorName"), at(v, "creditorAccount", "iban"),
				at(v, "debtorName"), at(v, "debtorAccount", "iban"), remittance, at(v, "bankTransactionCode"), at(v, "proprietaryBankTransactionCode"),
				at(v, "balanceAfterTransaction", "balanceAmount", "amount"), len(v.(map[string]any))))
		}
	}
	return out
}

func transactionLine(x bankfeed.Transaction) string {
	after := ""
	if x.BalanceAfter != nil {
		after = x.BalanceAfter.Amount.String()
	}
	return fmt.Sprint(x.Status, x.BankID, x.EntryReference, x.EndToEndID, x.BookingDate, x.ValueDate,
		x.Money.Amount, x.Money.Currency, x.Creditor.Name, x.Creditor.Account.Value,
		x.Debtor.Name, x.Debtor.Account.Value, x.Remittance, x.BankCode, x.ProprietaryCode, after, len(document(string(x.Raw))))
}
