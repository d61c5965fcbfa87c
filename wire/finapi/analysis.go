package finapi

import (
	"encoding/json"

	"github.com/bankfeed/bankfeed"
)

// Decimal is an exact amount that JSON shows as a number with the bank's scale.
type Decimal struct{ bankfeed.Amount }

// MarshalJSON implements json.Marshaler: 10.00 stays 10.00.
func (d Decimal) MarshalJSON() ([]byte, error) { return d.AppendText(nil) }

// Category groups types of reports.
type Category string

// Categories of reports.
const (
	CashFlow  Category = "cashFlow"
	Contracts Category = "contracts"
	Risk      Category = "risk"
)

// ReportType is what a report is about; a case holds one report of each.
type ReportType struct {
	Category Category
	Type     string
}

// Report types.
var (
	ReportBalances          = ReportType{CashFlow, "balances"}
	ReportCashFlow          = ReportType{CashFlow, "cashFlow"}
	ReportIncomeAndSpending = ReportType{CashFlow, "incomeAndSpending"}
	ReportIncome            = ReportType{CashFlow, "income"}
	ReportSpending          = ReportType{CashFlow, "spending"}
	ReportRentAndLiving     = ReportType{CashFlow, "rentAndLiving"}
	ReportContracts         = ReportType{Contracts, "contracts"}
	ReportInsurance         = ReportType{Contracts, "insurance"}
	ReportRisk              = ReportType{Risk, "indicators"}
	ReportChargebacks       = ReportType{Risk, "chargebacks"}
	ReportDebtCollection    = ReportType{Risk, "debtCollection"}
	ReportGambling          = ReportType{Risk, "gambling"}
	ReportSeizure           = ReportType{Risk, "seizure"}
)

// ReportTypes lists all of them.
var ReportTypes = []ReportType{
	ReportBalances, ReportCashFlow, ReportIncomeAndSpending, ReportIncome, ReportSpending, ReportRentAndLiving,
	ReportContracts, ReportInsurance,
	ReportRisk, ReportChargebacks, ReportDebtCollection, ReportGambling, ReportSeizure,
}

// String is the part of a path that names the type: cashFlow/balances.
func (t ReportType) String() string { return string(t.Category) + "/" + t.Type }

// ReportStatus is the state of a report.
type ReportStatus string

// Report statuses; the last two are final.
const (
	ReportPending    ReportStatus = "PENDING"
	ReportInProgress ReportStatus = "IN_PROGRESS"
	ReportSuccessful ReportStatus = "SUCCESSFUL"
	ReportFailed     ReportStatus = "FAILED"
)

// Final tells whether the status stays.
func (s ReportStatus) Final() bool { return s == ReportSuccessful || s == ReportFailed }

// CaseRequest is the body of POST /api/v1/cases.
type CaseRequest struct {
	DataSourceIDs []string `json:"dataSourceIds"`
	Name          string   `json:"name,omitempty"`
}

// Case binds data sources to reports.
type Case struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	DataSourceIDs []string `json:"dataSourceIds"`
	CreationDate  Time     `json:"creationDate"`
}

// Cases is the answer of GET /api/v1/cases.
type Cases struct {
	Cases []Case `json:"cases"`
}

// ReportRequest is the body of POST …/reports/{category}/{type}; it may be empty.
type ReportRequest struct {
	CallbackURL    string `json:"callbackUrl,omitempty"`
	CallbackHandle string `json:"callbackHandle,omitempty"`
	// DaysOfReport is how far back the report looks, counted from the day up to
	// which the data is known.
	DaysOfReport int `json:"daysOfReport,omitempty"`
}

// Report is a report of a case; Result is there once it is SUCCESSFUL, and of
// the Go type that belongs to its ReportType.
type Report struct {
	ID             string          `json:"id"`
	CaseID         string          `json:"caseId"`
	Category       Category        `json:"category"`
	Type           string          `json:"type"`
	Status         ReportStatus    `json:"status"`
	Code           string          `json:"code,omitempty"`
	Message        string          `json:"message,omitempty"`
	CallbackHandle string          `json:"callbackHandle,omitempty"`
	DaysOfReport   int             `json:"daysOfReport"`
	CreationDate   Time            `json:"creationDate"`
	FinishedDate   *Time           `json:"finishedDate"`
	Result         json.RawMessage `json:"result,omitempty" doc:"There once status is SUCCESSFUL. Category and type say which of them it is: income, spending and rentAndLiving are parts of an IncomeSpendingResult, insurance of a ContractsResult, and the category risk has the RiskResult."`
}

// Reports is the answer of GET …/reports.
type Reports struct {
	Reports []Report `json:"reports"`
}

// ReportCallback is the body of a report's callback.
type ReportCallback struct {
	CallbackHandle string       `json:"callbackHandle,omitempty"` // as it was given
	CaseID         string       `json:"caseId"`
	ReportID       string       `json:"reportId"`
	Category       Category     `json:"category"`
	Type           string       `json:"type"`
	Status         ReportStatus `json:"status"`
	Code           string       `json:"code,omitempty"`
	Message        string       `json:"message,omitempty"`
}

// ReportCallbackOf renders the end of a report.
func ReportCallbackOf(r *bankfeed.RequestRef) ReportCallback {
	c := ReportCallback{CallbackHandle: r.Handle, ReportID: r.UUID.String(), Status: ReportStatus(r.Status), Code: r.Code, Message: r.Message}
	if r.Report != nil {
		c.CaseID, c.Category, c.Type = r.Report.Case.String(), Category(r.Report.Category), r.Report.Type
	}
	return c
}

// Basis says what a result was computed from.
type Basis struct {
	From bankfeed.Date `json:"from"` // the first day that is covered; empty without any transaction
	To   bankfeed.Date `json:"to"`   // the day up to which the data is known
	// TransactionCount is how many booked transactions count; IgnoredCount how
	// many do not, being pending, rejected or the like.
	TransactionCount int `json:"transactionCount"`
	IgnoredCount     int `json:"ignoredCount"`
	// Rules is the fingerprint of the rules for labels.
	Rules string `json:"rules"`
	// Texts are the names of the categories and labels that the result uses.
	Texts map[string]Text `json:"texts,omitempty"`
}

// Text is a name in English and German.
type Text struct {
	EN string `json:"en"`
	DE string `json:"de"`
}

// ReportAccount names an account in a result.
type ReportAccount struct {
	AccountID    string `json:"accountId"`
	DataSourceID string `json:"dataSourceId"`
	Name         string `json:"accountName,omitempty"`
	IBAN         string `json:"iban,omitempty"`
	Type         string `json:"accountType"`
	Currency     string `json:"currency"`
}

// BalancesResult is the result of cashFlow/balances.
type BalancesResult struct {
	Basis
	Accounts []AccountBalances `json:"accounts"`
	Totals   []CurrencyTotal   `json:"totals"` // of the current balances
}

// CurrencyTotal is a sum in one currency.
type CurrencyTotal struct {
	Currency string  `json:"currency"`
	Amount   Decimal `json:"amount"`
}

// AccountBalances is how the balance of an account went. Without a booked
// balance of its bank an account has none of it.
type AccountBalances struct {
	ReportAccount
	Balance     *Decimal      `json:"balance" nullable:"true"`
	BalanceDate bankfeed.Date `json:"balanceDate,omitempty"`
	Available   *Decimal      `json:"available" nullable:"true"`
	// Statistics are over the balances at the ends of the days covered.
	Statistics *BalanceStatistics `json:"statistics,omitempty"`
	Months     []BalanceMonth     `json:"months"`
	// History are the balances at the ends of those days on which they changed,
	// after the one before the first day.
	History []BalancePoint `json:"history"`
}

// BalanceStatistics summarizes balances at the ends of days.
type BalanceStatistics struct {
	Opening       Decimal `json:"opening"` // before the first day
	Closing       Decimal `json:"closing"`
	Minimum       Decimal `json:"minimum"`
	Maximum       Decimal `json:"maximum"`
	Average       Decimal `json:"average"`
	Days          int     `json:"days"`
	DaysBelowZero int     `json:"daysBelowZero"`
}

// BalanceMonth is BalanceStatistics of the covered days of a month.
type BalanceMonth struct {
	Month string `json:"month"` // YYYY-MM
	BalanceStatistics
}

// BalancePoint is the balance at the end of a day.
type BalancePoint struct {
	Date    bankfeed.Date `json:"date"`
	Balance Decimal       `json:"balance"`
}

// CashFlowResult is the result of cashFlow/cashFlow.
type CashFlowResult struct {
	Basis
	Currencies []CurrencyCashFlow `json:"currencies"`
}

// CurrencyCashFlow is the cash flow in one currency.
type CurrencyCashFlow struct {
	Currency string `json:"currency"`
	Flow
	Categories []CategoryFlow `json:"categories"`
	Months     []MonthFlow    `json:"months"`
	// MonthlyAverage is over the months that are covered whole.
	MonthlyAverage *Flow `json:"monthlyAverage,omitempty"`
	FullMonths     int   `json:"fullMonths"`
}

// Flow sums up: Net = Income + Spending + Transfers. Spending is negative.
type Flow struct {
	Income    Decimal `json:"income"`
	Spending  Decimal `json:"spending"`
	Transfers Decimal `json:"transfers"` // between the accounts of the case, and to the same holder
	Net       Decimal `json:"net"`
}

// CategoryFlow is the part of a category.
type CategoryFlow struct {
	Category string      `json:"category"`
	Amount   Decimal     `json:"amount"`
	Count    int         `json:"count"`
	Labels   []LabelFlow `json:"labels,omitempty"`
}

// LabelFlow is the part of a label; empty for what no rule knows.
type LabelFlow struct {
	Label  string  `json:"label"`
	Amount Decimal `json:"amount"`
	Count  int     `json:"count"`
}

// MonthFlow is the part of a month.
type MonthFlow struct {
	Month string `json:"month"` // YYYY-MM
	Full  bool   `json:"full"`  // all its days are covered
	Flow
	Categories []CategoryFlow `json:"categories"`
}

// IncomeSpendingResult is the result of cashFlow/incomeAndSpending, and of its
// parts income, spending and rentAndLiving.
type IncomeSpendingResult struct {
	Basis
	Currencies []CurrencyIncomeSpending `json:"currencies"`
}

// CurrencyIncomeSpending is one currency of it; own transfers are in neither.
type CurrencyIncomeSpending struct {
	Currency   string    `json:"currency"`
	FullMonths int       `json:"fullMonths"`
	Income     *Income   `json:"income,omitempty"`
	Spending   *Spending `json:"spending,omitempty"`
}

// Income is what came in: Total = Regular + Other.
type Income struct {
	Total          Decimal        `json:"total"`
	Regular        Decimal        `json:"regular"` // salary, pension, benefits, and what comes in a rhythm
	Other          Decimal        `json:"other"`
	MonthlyAverage *Decimal       `json:"monthlyAverage" nullable:"true"` // of the months that are covered whole
	Months         []MonthAmount  `json:"months"`
	Salary         *IncomeSource  `json:"salary,omitempty"` // the largest one, if there is any
	Sources        []IncomeSource `json:"sources"`
	OtherSources   int            `json:"otherSources"` // how many more there are than listed
}

// MonthAmount is a month's sum.
type MonthAmount struct {
	Month   string  `json:"month"`
	Full    bool    `json:"full"`
	Total   Decimal `json:"total"`
	Regular Decimal `json:"regular"`
	Other   Decimal `json:"other"`
}

// IncomeSource is one payer.
type IncomeSource struct {
	Counterpart   string        `json:"counterpart"`
	Kind          string        `json:"kind"` // SALARY, PENSION, BENEFIT, REGULAR, OTHER
	Label         string        `json:"label,omitempty"`
	Total         Decimal       `json:"total"`
	Count         int           `json:"count"`
	AverageAmount Decimal       `json:"averageAmount"`
	LastAmount    Decimal       `json:"lastAmount"`
	FirstDate     bankfeed.Date `json:"firstDate"`
	LastDate      bankfeed.Date `json:"lastDate"`
	Rhythm        string        `json:"rhythm,omitempty"`
	NextDate      bankfeed.Date `json:"nextDate,omitempty"`
	Active        bool          `json:"active"`
}

// Spending is what went out, negative: Total = Regular + Other.
type Spending struct {
	Total          Decimal        `json:"total"`
	Regular        Decimal        `json:"regular"` // of recurring payments
	Other          Decimal        `json:"other"`
	MonthlyAverage *Decimal       `json:"monthlyAverage" nullable:"true"`
	Months         []MonthAmount  `json:"months"`
	Categories     []CategoryFlow `json:"categories"`
	Recipients     []Recipient    `json:"recipients"` // the largest
}

// Recipient is one payee.
type Recipient struct {
	Counterpart string  `json:"counterpart"`
	Category    string  `json:"category"`
	Total       Decimal `json:"total"`
	Count       int     `json:"count"`
	Regular     bool    `json:"regular"`
}

// ContractsResult is the result of contracts/contracts, and of its part
// insurance.
type ContractsResult struct {
	Basis
	ContractsData []Contract           `json:"contractsData"` // active ones first, the dearest first
	More          int                  `json:"more"`          // how many more there are than listed
	MonthlyCosts  []ContractsPerPeriod `json:"monthlyCosts"`  // of active contracts
}

// ContractsPerPeriod is what active contracts cost a month.
type ContractsPerPeriod struct {
	Currency     string  `json:"currency"`
	ContractType string  `json:"contractType"`
	Amount       Decimal `json:"amount"`
	Count        int     `json:"count"`
}

// Contract is a payment that recurs.
type Contract struct {
	ContractType  string          `json:"contractType"`
	Label         string          `json:"label,omitempty"`
	Category      string          `json:"category"`
	Counterpart   string          `json:"counterpart"`
	IBAN          string          `json:"counterpartIban,omitempty"`
	CreditorID    string          `json:"creditorId,omitempty"`
	MandateID     string          `json:"mandateReference,omitempty"`
	Currency      string          `json:"currency"`
	Amount        Decimal         `json:"amount"` // of the last payment; negative
	AverageAmount Decimal         `json:"averageAmount"`
	Stability     string          `json:"amountStability"` // FIXED, STABLE, VARIABLE
	Rhythm        string          `json:"rhythm"`
	MonthlyAmount Decimal         `json:"monthlyAmount"` // AverageAmount by the rhythm
	FirstDate     bankfeed.Date   `json:"firstDate"`
	LastDate      bankfeed.Date   `json:"lastDate"`
	NextDate      bankfeed.Date   `json:"nextDate,omitempty"`
	Active        bool            `json:"active"`
	NewContract   bool            `json:"newContract"` // it began within the last 90 days
	Count         int             `json:"count"`
	Dates         []bankfeed.Date `json:"dates"` // of the last 12 payments
}

// RiskResult is the result of risk/indicators, and of its parts.
type RiskResult struct {
	Basis
	Indicators []RiskIndicator `json:"indicators"`
}

// RiskIndicator is one kind of sign. It is there with a count of 0 too: that
// none was found is a result.
type RiskIndicator struct {
	Type         string            `json:"type"` // CHARGEBACKS, DEBT_COLLECTION, GAMBLING, SEIZURE
	Count        int               `json:"count"`
	Sums         []RiskSum         `json:"sums"`
	FirstDate    bankfeed.Date     `json:"firstDate,omitempty"`
	LastDate     bankfeed.Date     `json:"lastDate,omitempty"`
	Transactions []RiskTransaction `json:"transactions"` // newest first
	More         int               `json:"more"`         // how many more there are than listed
}

// RiskSum is what came in and went out in one currency.
type RiskSum struct {
	Currency string  `json:"currency"`
	Credits  Decimal `json:"credits"`
	Debits   Decimal `json:"debits"`
}

// RiskTransaction is a transaction with the rule that matched.
type RiskTransaction struct {
	TransactionID string        `json:"transactionId"`
	AccountID     string        `json:"accountId"`
	Date          bankfeed.Date `json:"date"`
	Amount        Decimal       `json:"amount"`
	Currency      string        `json:"currency"`
	Counterpart   string        `json:"counterpart,omitempty"`
	Purpose       string        `json:"purpose,omitempty"`
	Label         string        `json:"label"`
	Rule          string        `json:"rule"`
}

// BalancesCheckRequest is the body of POST /api/v1/checks/balancesCheck.
type BalancesCheckRequest struct {
	DataSourceIDs []string `json:"dataSourceIds"`
	Amount        Decimal  `json:"amount"`
	Currency      string   `json:"currency,omitempty"` // EUR
}

// BalancesCheck answers whether an amount can be paid from one account.
type BalancesCheck struct {
	// Result is COVERED, COVERED_BY_OVERDRAFT, NOT_COVERED, or UNKNOWN where no
	// current account in the currency has a balance.
	Result            string                 `json:"result"`
	Payable           bool                   `json:"payable"`
	OverdraftRequired bool                   `json:"overdraftRequired"`
	Amount            Decimal                `json:"amount"`
	Currency          string                 `json:"currency"`
	Accounts          []AccountBalancesCheck `json:"accounts"` // the best one first
}

// AccountBalancesCheck is the answer for one account.
type AccountBalancesCheck struct {
	ReportAccount
	Result            string        `json:"result"`
	Payable           bool          `json:"payable"`
	OverdraftRequired bool          `json:"overdraftRequired"`
	Balance           *Decimal      `json:"balance" nullable:"true"`   // booked
	Pending           Decimal       `json:"pending"`                   // debits that are held or not booked yet
	Available         *Decimal      `json:"available" nullable:"true"` // as the bank says, overdraft included
	Overdraft         *Decimal      `json:"overdraft" nullable:"true"` // the part of it that is not the holder's own; null if the bank does not say
	Shortfall         Decimal       `json:"shortfall"`
	BalanceDate       bankfeed.Date `json:"balanceDate,omitempty"`
}

// HolderTypeRequest is the body of POST /api/v1/checks/accountHolderType.
type HolderTypeRequest struct {
	DataSourceIDs []string `json:"dataSourceIds"`
}

// HolderTypeCheck answers whether accounts belong to a person or a company.
type HolderTypeCheck struct {
	HolderType string              `json:"holderType"` // PERSON, COMPANY, MIXED, UNKNOWN
	Accounts   []AccountHolderType `json:"accounts"`
}

// AccountHolderType is the answer for one account.
type AccountHolderType struct {
	ReportAccount
	HolderName string           `json:"holderName,omitempty"`
	HolderType string           `json:"holderType"` // PERSON, COMPANY, UNKNOWN
	Confidence string           `json:"confidence"` // HIGH, MEDIUM, LOW; empty for UNKNOWN
	Evidence   []HolderEvidence `json:"evidence"`
}

// HolderEvidence is one reason. Weights add up; positive ones speak for a
// person, negative ones for a company.
type HolderEvidence struct {
	Kind   string `json:"kind"`
	Says   string `json:"says"` // PERSON, COMPANY
	Weight int    `json:"weight"`
	Detail string `json:"detail"`
	Count  int    `json:"count,omitempty"`
}
