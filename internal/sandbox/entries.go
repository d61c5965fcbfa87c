package sandbox

import (
	"fmt"
	"time"
)

// firstDay is the first of January 2024, the day all ordinary accounts were opened.
const firstDay = 19723

const (
	historyDays = 730 // ordinary accounts show two years
	bulkDays    = 50  // the index-based account shows this many days, so its size never changes
)

// plan is the kind of life that an account leads.
type plan int

const (
	planPersonal plan = iota
	planPending
	planTwins
	planBusiness
	planTravel
	planCard
	planSavings
	planLoan
)

// entry is one transaction before it is written out. Texts are made at render
// time only: counting and summing must stay cheap.
type entry struct {
	day    int   // it was made
	slot   int   // its place on that day
	booked int   // booking day; notBooked for what never is
	minor  int64 // as booked
	held   int64 // as shown while pending, if it differs
	from   *source
	fired  *posted // set instead of from for what an event made
}

// source is a merchant, an employer, a landlord: where entries come from.
type source struct {
	name, text string // text may hold %s for the date, written as layout
	layout     string
	code       string // ISO 20022 bank transaction code
	purpose    string // ISO 20022 purpose code
	mandate    bool   // direct debit: mandate and creditor ids
	card       bool   // pending until the next day
}

// rule is a payment on a fixed day of the month.
type rule struct {
	dom    int // day of the month, 1 to 28
	every  int // months between payments, counted from January
	cents  int64
	spread int // cents that vary from month to month
	source source
}

const (
	codeCard     = "PMNT-CCRD-POSD"
	codeDebit    = "PMNT-RDDT-ESDD"
	codeStanding = "PMNT-ICDT-STDO"
	codeOut      = "PMNT-ICDT-ESCT"
	codeIn       = "PMNT-RCDT-ESCT"
	codeSalary   = "PMNT-RCDT-SALA"
	codeInterest = "ACMT-MCOP-INTR"
)

const (
	month = "01/2006"
	date  = "02.01.2006"
)

var rules = map[plan][]rule{
	planPersonal: personalRules,
	planPending:  personalRules,
	planTwins:    personalRules,
	planBusiness: {
		{dom: 1, every: 1, cents: -210_000, source: source{name: "Speicherstadt Immobilien GmbH", text: "Gewerbemiete %s", layout: month, code: codeStanding, purpose: "RENT"}},
		{dom: 10, every: 1, cents: -180_000, spread: 60_000, source: source{name: "Finanzamt Hamburg-Mitte", text: "Umsatzsteuer %s St.-Nr. 48/123/45678", layout: month, code: codeDebit, mandate: true}},
		{dom: 15, every: 1, cents: -64_000, spread: 20_000, source: source{name: "Nordlicht Energie AG", text: "Abschlag Strom und Gas %s", layout: month, code: codeDebit, mandate: true}},
		{dom: 25, every: 1, cents: -1_350_000, source: source{name: "Lohnsammler Kontor Nord", text: "Gehälter %s", layout: month, code: codeOut, purpose: "SALA"}},
		{dom: 27, every: 1, cents: -410_000, source: source{name: "Hanse Krankenkasse", text: "SV-Beiträge %s", layout: month, code: codeDebit, mandate: true}},
	},
	planTravel: {
		{dom: 6, every: 1, cents: 60_000, spread: 15_000, source: source{name: "Own transfer", text: "Top-up %s", layout: month, code: codeIn}},
		{dom: 11, every: 1, cents: -18_000, spread: 9_000, source: source{name: "Harbour Light Hotel", text: "Booking %s", layout: date, code: codeOut}},
		{dom: 19, every: 1, cents: -12_500, spread: 5_000, source: source{name: "Northern Rail Passes Ltd", text: "Ticket %s", layout: date, code: codeOut}},
		{dom: 23, every: 2, cents: -31_000, spread: 9_000, source: source{name: "Lakeside School of Languages", text: "Course fee %s", layout: month, code: codeOut}},
	},
	planCard: {
		{dom: 25, every: 1, source: cardSettlement},
	},
	planSavings: {
		{dom: 2, every: 1, cents: 20_000, source: source{name: "Own transfer", text: "Sparplan %s", layout: month, code: codeIn, purpose: "SAVG"}},
		{dom: 28, every: 3, cents: 1_900, spread: 600, source: source{name: ProviderName, text: "Zinsen %s", layout: month, code: codeInterest, purpose: "INTE"}},
	},
	planLoan: {
		{dom: 4, every: 1, cents: 24_900, source: source{name: "Own transfer", text: "Rate %s", layout: month, code: codeIn, purpose: "LOAR"}},
		{dom: 28, every: 1, cents: -5_800, spread: 900, source: source{name: ProviderName, text: "Sollzinsen %s", layout: month, code: codeInterest, purpose: "INTE"}},
	},
}

var personalRules = []rule{
	{dom: 28, every: 1, cents: 285_000, spread: 3_000, source: source{name: "Werft & Söhne AG", text: "Gehalt %s Personalnr. 40718", layout: month, code: codeSalary, purpose: "SALA"}},
	{dom: 1, every: 1, cents: -95_000, source: source{name: "Hausverwaltung Elbblick", text: "Miete %s Whg. 14", layout: month, code: codeStanding, purpose: "RENT"}},
	{dom: 2, every: 1, cents: -20_000, source: source{name: "Own transfer", text: "Sparplan %s", layout: month, code: codeStanding, purpose: "SAVG"}},
	{dom: 5, every: 1, cents: -8_900, source: source{name: "Stadtwerke Nord GmbH", text: "Abschlag Strom %s Kd 8831740", layout: month, code: codeDebit, mandate: true}},
	{dom: 12, every: 1, cents: -3_999, source: source{name: "Telenova Mobilfunk", text: "Rechnung %s", layout: month, code: codeDebit, mandate: true}},
	{dom: 15, every: 3, cents: -13_450, source: source{name: "Hanse Versicherung AG", text: "Haftpflicht und Hausrat %s", layout: month, code: codeDebit, mandate: true}},
	{dom: 20, every: 1, cents: -1_599, source: source{name: "Kinokiste Streaming", text: "Abo %s", layout: month, code: codeDebit, mandate: true}},
	{dom: 22, every: 12, cents: 21_900, spread: 500, source: source{name: "Stadtwerke Nord GmbH", text: "Guthaben Jahresabrechnung %s", layout: month, code: codeIn, purpose: "REFU"}},
}

var cardSettlement = source{name: "Own transfer", text: "Ausgleich Kartenabrechnung %s", layout: month, code: codeIn}

type shop struct {
	low, high int // cents
	source    source
}

func cardShop(name string, low, high int) shop {
	return shop{low, high, source{name: name, text: "Kartenzahlung %s " + name, layout: date, code: codeCard, card: true}}
}

var shops = []shop{
	cardShop("Biomarkt Nordend", 1_200, 7_800),
	cardShop("Bäckerei Holm", 240, 1_450),
	cardShop("Supermarkt Alster", 900, 9_600),
	cardShop("Drogerie Lindner", 480, 3_900),
	cardShop("Tankstelle Ring 3", 3_500, 8_200),
	cardShop("Trattoria da Nino", 1_850, 6_400),
	cardShop("Buchladen am Fleet", 890, 4_200),
	cardShop("Verkehrsbetriebe Hafenstadt", 320, 4_900),
	cardShop("Apotheke zur Möwe", 560, 3_300),
	cardShop("Elektro Brandt", 1_990, 24_900),
	cardShop("Café Speicher", 290, 1_280),
	cardShop("Gartencenter Grün & Co", 1_100, 8_700),
}

var customers = []string{"Reederei Petersen KG", "Tischlerei Voß", "Praxis Dr. Aydın", "Museum am Kai", "Yachtclub Süderelbe e.V.", "Druckhaus Lorenz GmbH"}

var suppliers = []string{"Papiergroßhandel Ost", "Logistik Brügge NV", "Werkzeug Maier GmbH", "Bürobedarf Krause"}

var (
	customerSources = sources(customers, "Rechnung RE-%s", codeIn)
	supplierSources = sources(suppliers, "Rechnung %s-4711", codeOut)
	coffee          = cardShop("Café Speicher", 280, 280)
	tip             = cardShop("Trattoria da Nino", 5_000, 5_000)
	deposit         = cardShop("Mietwagen Jonas Kaution", 30_000, 30_000)
	bulkSources     = sources([]string{"Onlinehandel Kunde", "Marktplatz Auszahlung", "Paketdienst Hansa", "Zahlungsdienst Nord", "Lager Süd Miete"}, "Vorgang %s", codeIn)
)

func sources(names []string, text, code string) []source {
	out := make([]source, len(names))
	for i, n := range names {
		out[i] = source{name: n, text: text, layout: "20060102", code: code}
	}
	return out
}

// entries are what happens on an ordinary account on one day, oldest first.
func (a *account) entries(day int) []entry {
	if day < a.opened {
		return nil
	}
	d := dice(a.key ^ uint64(day)*0x9e3779b97f4a7c15)
	var out []entry
	add := func(cents int64, s *source) *entry {
		e := entry{day: day, slot: len(out), booked: day, minor: fromCents(cents, a.currency), from: s}
		if s.card {
			e.booked = day + 1
		}
		out = append(out, e)
		return &out[len(out)-1]
	}
	buy := func(s *shop) *entry { return add(-int64(s.low+d.below(s.high-s.low+1)), &s.source) }

	t := dayTime(day)
	list := rules[a.plan]
	for i := range list {
		r := &list[i]
		if t.Day() != r.dom || (int(t.Month())-1)%r.every != 0 {
			continue
		}
		cents := r.cents
		if r.spread > 0 {
			cents += int64(d.below(2*r.spread+1) - r.spread)
		}
		if a.plan == planCard {
			cents = a.cardDebt(day)
		}
		add(cents, &r.source)
	}
	switch a.plan {
	case planCard:
		for _, p := range a.cardPurchases(day) {
			add(p.cents, p.from)
		}
	case planPersonal:
		for range purchases(&d) {
			buy(&shops[d.below(len(shops))])
		}
	case planTwins:
		buy(&coffee)
		buy(&coffee)
		for range purchases(&d) {
			buy(&shops[d.below(len(shops))])
		}
	case planPending:
		e := buy(&tip)
		e.held, e.minor = e.minor, e.minor-500
		buy(&deposit).booked = notBooked
		for range 2 + d.below(2) {
			buy(&shops[d.below(5)])
		}
	case planBusiness:
		for range d.below(3) {
			add(int64(80_000+d.below(90_000)), &customerSources[d.below(len(customerSources))])
		}
		if d.below(2) == 0 {
			add(-int64(12_000+d.below(60_000)), &supplierSources[d.below(len(supplierSources))])
		}
		for range purchases(&d) {
			buy(&shops[d.below(len(shops))])
		}
	case planTravel, planSavings, planLoan:
	}
	return out
}

// purchases is how often someone shops on a day: 0.9 times on average.
func purchases(d *dice) int {
	switch n := d.below(100); {
	case n < 35:
		return 0
	case n < 75:
		return 1
	default:
		return 2
	}
}

type purchase struct {
	cents int64
	from  *source
}

func (a *account) cardPurchases(day int) []purchase {
	if day < a.opened {
		return nil
	}
	d := dice(a.key ^ uint64(day)*0xd6e8feb86659fd93)
	var out []purchase
	for range purchases(&d) {
		s := &shops[d.below(len(shops))]
		out = append(out, purchase{-int64(s.low + d.below(s.high-s.low+1)), &s.source})
	}
	return out
}

// cardDebt is what was bought in the month before a settlement.
func (a *account) cardDebt(day int) int64 {
	var debt int64
	for d := dayOf(dayTime(day).AddDate(0, -1, 0)); d < day; d++ {
		for _, p := range a.cardPurchases(d) {
			debt -= p.cents
		}
	}
	return debt
}

// bulkEntry is the k-th entry of a day on the index-based account. Every day
// has the same amounts in another order, so that a balance needs no walk.
func (a *account) bulkEntry(day, k int) entry {
	return entry{day: day, slot: k, booked: day, minor: bulkMinor((k + day*37) % a.perDay), from: &bulkSources[k%len(bulkSources)]}
}

func bulkMinor(k int) int64 {
	minor := int64(k*7919%10007 + 1)
	if k%2 == 1 {
		return -minor
	}
	return minor
}

func (a *account) bulkDaySum() int64 {
	var sum int64
	for k := range a.perDay {
		sum += bulkMinor(k)
	}
	return sum
}

// standingOrders are the payments a current account makes every month.
func (a *account) standingOrders() []rule {
	var out []rule
	for _, r := range rules[a.plan] {
		if r.source.code == codeStanding && a.perDay == 0 {
			out = append(out, r)
		}
	}
	return out
}

// dayOf counts days since 1970 in UTC, the zone this bank lives in.
func dayOf(t time.Time) int {
	s := t.Unix()
	if s < 0 {
		s -= 86399
	}
	return int(s / 86400)
}

func dayTime(day int) time.Time { return time.Unix(int64(day)*86400, 0).UTC() }

func dayText(day int) string { return dayTime(day).Format(time.DateOnly) }

func parseDay(s string) (int, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("not a date of the form YYYY-MM-DD")
	}
	return dayOf(t), nil
}
