package native

import "github.com/bankfeed/bankfeed"

// renderer draws entities of one tenant.
type renderer struct {
	installation bankfeed.Installation
	tenant       bankfeed.TenantID
}

func (a *API) renderer(c *call) renderer { return renderer{a.Installation, c.Client.Tenant} }

func (r renderer) uuid(kind bankfeed.Kind, n int64) string {
	return r.installation.UUID(kind, r.tenant, n).String()
}

func (r renderer) user(u bankfeed.User) User {
	return User{
		ID: decimal(u.ID), UUID: r.uuid(bankfeed.KindUser, int64(u.ID)), ExternalID: u.ExternalID, Email: u.Email,
		BusinessContext: string(u.BusinessContext), CreatedAt: u.CreatedAt.UTC(),
	}
}

func provider(p bankfeed.Provider) Provider {
	contexts := p.Contexts
	if len(contexts) == 0 {
		contexts = []bankfeed.BusinessContext{bankfeed.Individual, bankfeed.Business}
	}
	return Provider{
		ID: p.ID, Name: p.Name, BIC: p.BIC, Country: p.Country, LogoURL: p.LogoURL, Sandbox: p.Sandbox,
		BusinessContexts: words(contexts),
		Channels: each(p.Channels, func(c bankfeed.ChannelDefinition) ProviderChannel {
			return ProviderChannel{
				Mode: string(c.Mode), AccountTypes: words(c.AccountTypes),
				Credentials: each(c.Credentials, func(f bankfeed.CredentialField) CredentialField { return CredentialField(f) }),
			}
		}),
	}
}

func (r renderer) connection(c bankfeed.Connection) Connection {
	return Connection{
		ID: decimal(c.ID), UUID: r.uuid(bankfeed.KindConnection, int64(c.ID)), User: decimal(c.User),
		ProviderID: c.ProviderID, ProviderName: c.ProviderName, BIC: c.BIC, Status: string(c.Status),
		AutoSync: c.AutoSync, NextSyncAt: utc(&c.NextSyncAt), CreatedAt: c.CreatedAt.UTC(),
		Channels: each(c.Channels, channel),
	}
}

func channel(c bankfeed.Channel) Channel {
	return Channel{
		Mode: string(c.Mode), Status: string(c.Status), LastStatus: string(c.LastStatus), ExpiresAt: utc(c.Expires),
		LastSuccessAt: utc(c.LastSuccessAt), LastEndAt: utc(c.LastEndAt), Action: string(c.Action),
		Failure: failure(c.Failure), NextTryAt: utc(c.NextTryAt), Challenge: challenge(c.Challenge),
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
		Methods:  each(c.Methods, func(m bankfeed.ChallengeMethod) ChallengeMethod { return ChallengeMethod(m) }),
		Deadline: c.Deadline.UTC(),
	}
}

func step(s bankfeed.LinkStep) Step {
	return Step{Mode: string(s.Mode), RedirectURL: s.RedirectURL, Challenge: challenge(s.Challenge)}
}

func (r renderer) session(s bankfeed.Session) Session {
	return Session{
		ID: decimal(s.ID), UUID: r.uuid(bankfeed.KindSession, int64(s.ID)), User: decimal(s.User), Connection: decimal(s.Connection),
		ExternalID: s.ExternalID, Type: string(s.Type), Status: string(s.Status), Stage: string(s.Stage),
		Initiator: string(s.Initiator), Attended: s.Attended, CreatedAt: s.CreatedAt.UTC(), EndedAt: utc(s.EndedAt),
		Failure: failure(s.Failure),
	}
}

func (r renderer) consent(c bankfeed.Consent) Consent {
	v := Consent{
		ID: decimal(c.ID), UUID: r.uuid(bankfeed.KindConsent, int64(c.ID)), User: decimal(c.User), Connection: decimal(c.Connection),
		ExternalID: c.ExternalID, Mode: string(c.Mode), Status: string(c.Status), PreviousStatus: string(c.Previous),
		ValidUntil: string(c.ValidUntil), CreatedAt: c.CreatedAt.UTC(), ConfirmedAt: utc(c.ConfirmedAt),
		Accounts: each(c.Accounts, func(a bankfeed.ConsentAccount) ConsentAccount {
			return ConsentAccount{ID: decimal(a.ID), IBAN: a.IBAN, Currency: a.Currency}
		}),
	}
	if i := c.Invalidation; i != nil {
		v.Invalidation = &Invalidation{At: i.At.UTC(), Reason: string(i.Reason), Description: i.Description}
	}
	return v
}

func (r renderer) account(a bankfeed.Account) Account {
	return Account{
		ID: decimal(a.ID), UUID: r.uuid(bankfeed.KindAccount, int64(a.ID)), User: decimal(a.User), Connection: decimal(a.Connection),
		Type: string(a.Type), Status: string(a.Status), Identifiers: each(a.Identifiers, identifier), Currency: a.Currency,
		Name: a.Name, Product: a.Product, BIC: a.BIC, OwnerName: a.OwnerName, HolderType: a.HolderType, Usage: a.Usage,
		IsBusiness: a.IsBusiness, BankType: a.BankType, BankStatus: a.BankStatus, Source: string(a.Source),
		Balances: each(a.Balances, balance), CreatedAt: a.CreatedAt.UTC(), LastReadAt: utc(&a.LastReadAt),
		RemovedAt: utc(&a.RemovedAt), Failure: failure(a.Failure),
	}
}

func identifier(i bankfeed.Identifier) Identifier {
	return Identifier{Type: string(i.Type), Value: i.Value}
}

func balance(b bankfeed.Balance) Balance {
	return Balance{
		Type: b.Type, Money: money(b.Money), ReferenceDate: string(b.ReferenceDate),
		LastChangeAt: utc(b.LastChangeAt), FetchedAt: b.FetchedAt.UTC(),
	}
}

func money(m bankfeed.Money) Money { return Money{Amount: m.Amount.String(), Currency: m.Currency} }

func (r renderer) transaction(t bankfeed.Transaction) Transaction {
	v := Transaction{
		ID: decimal(t.ID), User: decimal(t.User), Account: decimal(t.Account), Status: string(t.Status), Money: money(t.Money),
		BookingDate: string(t.BookingDate), ValueDate: string(t.ValueDate), TransactionDate: string(t.TransactionDate),
		BankID: t.BankID, EntryReference: t.EntryReference, EndToEndID: t.EndToEndID, MandateID: t.MandateID,
		CreditorID: t.CreditorID, CheckID: t.CheckID, Creditor: party(t.Creditor), Debtor: party(t.Debtor),
		UltimateCreditor: t.UltimateCreditor, UltimateDebtor: t.UltimateDebtor, Remittance: t.Remittance,
		StructuredRemittance: t.Structured, AdditionalInformation: t.AdditionalInfo, PurposeCode: t.PurposeCode,
		BankTransactionCode: t.BankCode, ProprietaryCode: t.ProprietaryCode, CreatedAt: t.CreatedAt.UTC(),
		Exchange: each(t.Exchange, func(x bankfeed.Exchange) Exchange {
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
