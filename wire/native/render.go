package native

import "github.com/bankfeed/bankfeed"

// Renderer draws entities and events of one tenant.
type Renderer struct {
	Installation bankfeed.Installation
	Tenant       bankfeed.TenantID
}

func (r Renderer) uuid(kind bankfeed.Kind, n int64) string {
	return r.Installation.UUID(kind, r.Tenant, n).String()
}

// User draws a user.
func (r Renderer) User(u bankfeed.User) User {
	return User{
		ID: Decimal(u.ID), UUID: r.uuid(bankfeed.KindUser, int64(u.ID)), ExternalID: u.ExternalID, Email: u.Email,
		BusinessContext: string(u.BusinessContext), CreatedAt: u.CreatedAt.UTC(),
	}
}

// ProviderOf draws a bank.
func ProviderOf(p bankfeed.Provider) Provider {
	contexts := p.Contexts
	if len(contexts) == 0 {
		contexts = []bankfeed.BusinessContext{bankfeed.Individual, bankfeed.Business}
	}
	return Provider{
		ID: p.ID, Name: p.Name, BIC: p.BIC, Country: p.Country, LogoURL: p.LogoURL, Sandbox: p.Sandbox,
		BusinessContexts: Words(contexts),
		Channels: Each(p.Channels, func(c bankfeed.ChannelDefinition) ProviderChannel {
			return ProviderChannel{
				Mode: string(c.Mode), AccountTypes: Words(c.AccountTypes),
				Credentials: Each(c.Credentials, func(f bankfeed.CredentialField) CredentialField { return CredentialField(f) }),
			}
		}),
	}
}

// Connection draws a connection.
func (r Renderer) Connection(c bankfeed.Connection) Connection {
	return Connection{
		ID: Decimal(c.ID), UUID: r.uuid(bankfeed.KindConnection, int64(c.ID)), User: Decimal(c.User),
		ProviderID: c.ProviderID, ProviderName: c.ProviderName, BIC: c.BIC, Status: string(c.Status),
		AutoSync: c.AutoSync, NextSyncAt: UTC(&c.NextSyncAt), CreatedAt: c.CreatedAt.UTC(),
		Channels: Each(c.Channels, channel),
	}
}

func channel(c bankfeed.Channel) Channel {
	return Channel{
		Mode: string(c.Mode), Status: string(c.Status), LastStatus: string(c.LastStatus), ExpiresAt: UTC(c.Expires),
		LastSuccessAt: UTC(c.LastSuccessAt), LastEndAt: UTC(c.LastEndAt), Action: string(c.Action),
		Failure: failure(c.Failure), NextTryAt: UTC(c.NextTryAt), Challenge: challenge(c.Challenge),
	}
}

func failure(f *bankfeed.Failure) *Failure {
	if f == nil {
		return nil
	}
	return &Failure{Reason: string(f.Reason), Code: f.Code, Text: f.Text, Retry: f.Retry}
}

func challenge(c *bankfeed.Challenge) *Challenge {
	if c == nil {
		return nil
	}
	return &Challenge{
		Kind: string(c.Kind), Method: c.Method, Text: c.Text, Format: c.Format, MaxLength: c.MaxLen, Image: c.Image,
		Methods:  Each(c.Methods, func(m bankfeed.ChallengeMethod) ChallengeMethod { return ChallengeMethod(m) }),
		Deadline: c.Deadline.UTC(),
	}
}

// StepOf draws what a channel needs next.
func StepOf(s bankfeed.LinkStep) Step {
	return Step{Mode: string(s.Mode), RedirectURL: s.RedirectURL, Challenge: challenge(s.Challenge)}
}

// Session draws a session.
func (r Renderer) Session(s bankfeed.Session) Session {
	return Session{
		ID: Decimal(s.ID), UUID: r.uuid(bankfeed.KindSession, int64(s.ID)), User: Decimal(s.User), Connection: Decimal(s.Connection),
		ExternalID: s.ExternalID, Type: string(s.Type), Status: string(s.Status), Stage: string(s.Stage),
		Initiator: string(s.Initiator), Attended: s.Attended, CreatedAt: s.CreatedAt.UTC(), EndedAt: UTC(s.EndedAt),
		Failure: failure(s.Failure),
	}
}

// Consent draws a consent.
func (r Renderer) Consent(c bankfeed.Consent) Consent {
	v := Consent{
		ID: Decimal(c.ID), UUID: r.uuid(bankfeed.KindConsent, int64(c.ID)), User: Decimal(c.User), Connection: Decimal(c.Connection),
		ExternalID: c.ExternalID, Mode: string(c.Mode), Status: string(c.Status), PreviousStatus: string(c.Previous),
		ValidUntil: string(c.ValidUntil), CreatedAt: c.CreatedAt.UTC(), ConfirmedAt: UTC(c.ConfirmedAt),
		Accounts: Each(c.Accounts, func(a bankfeed.ConsentAccount) ConsentAccount {
			return ConsentAccount{ID: Decimal(a.ID), IBAN: a.IBAN, Currency: a.Currency}
		}),
	}
	if i := c.Invalidation; i != nil {
		v.Invalidation = &Invalidation{At: i.At.UTC(), Reason: string(i.Reason), Description: i.Description}
	}
	return v
}

// Account draws an account.
func (r Renderer) Account(a bankfeed.Account) Account {
	return Account{
		ID: Decimal(a.ID), UUID: r.uuid(bankfeed.KindAccount, int64(a.ID)), User: Decimal(a.User), Connection: Decimal(a.Connection),
		Type: string(a.Type), Status: string(a.Status), Identifiers: Each(a.Identifiers, identifier), Currency: a.Currency,
		Name: a.Name, Product: a.Product, BIC: a.BIC, OwnerName: a.OwnerName, HolderType: a.HolderType, Usage: a.Usage,
		IsBusiness: a.IsBusiness, BankType: a.BankType, BankStatus: a.BankStatus, Source: string(a.Source),
		Balances: Each(a.Balances, balance), CreatedAt: a.CreatedAt.UTC(), LastReadAt: UTC(&a.LastReadAt),
		RemovedAt: UTC(&a.RemovedAt), Failure: failure(a.Failure),
	}
}

func identifier(i bankfeed.Identifier) Identifier {
	return Identifier{Type: string(i.Type), Value: i.Value}
}

func balance(b bankfeed.Balance) Balance {
	return Balance{
		Type: b.Type, Money: money(b.Money), ReferenceDate: string(b.ReferenceDate),
		LastChangeAt: UTC(b.LastChangeAt), FetchedAt: b.FetchedAt.UTC(),
	}
}

func money(m bankfeed.Money) Money { return Money{Amount: m.Amount.String(), Currency: m.Currency} }

// Transaction draws a transaction.
func (r Renderer) Transaction(t bankfeed.Transaction) Transaction {
	v := Transaction{
		ID: Decimal(t.ID), User: Decimal(t.User), Account: Decimal(t.Account), Status: string(t.Status), Money: money(t.Money),
		BookingDate: string(t.BookingDate), ValueDate: string(t.ValueDate), TransactionDate: string(t.TransactionDate),
		BankID: t.BankID, EntryReference: t.EntryReference, EndToEndID: t.EndToEndID, MandateID: t.MandateID,
		CreditorID: t.CreditorID, CheckID: t.CheckID, Creditor: party(t.Creditor), Debtor: party(t.Debtor),
		UltimateCreditor: t.UltimateCreditor, UltimateDebtor: t.UltimateDebtor, Remittance: t.Remittance,
		StructuredRemittance: t.Structured, AdditionalInformation: t.AdditionalInfo, PurposeCode: t.PurposeCode,
		BankTransactionCode: t.BankCode, ProprietaryCode: t.ProprietaryCode, CreatedAt: t.CreatedAt.UTC(),
		Exchange: Each(t.Exchange, func(x bankfeed.Exchange) Exchange {
			return Exchange{
				SourceCurrency: x.SourceCurrency, TargetCurrency: x.TargetCurrency, UnitCurrency: x.UnitCurrency,
				Rate: x.Rate, Date: string(x.Date),
			}
		}),
	}
	if t.BalanceAfter != nil {
		m := money(*t.BalanceAfter)
		v.BalanceAfter = &m
	}
	return v
}

func party(p bankfeed.Party) *Party {
	if p == (bankfeed.Party{}) {
		return nil
	}
	v := &Party{Name: p.Name, Address: p.Address, Agent: p.Agent}
	if p.Account != (bankfeed.Identifier{}) {
		i := identifier(p.Account)
		v.Account = &i
	}
	return v
}
