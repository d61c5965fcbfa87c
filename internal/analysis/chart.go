package analysis

import (
	"fmt"
	"html/template"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Charts are drawn as SVG inside the page: no script, nothing to load. Colors and
// widths come from the page's style by class, so that they follow light, dark and
// print. Only the place of a pixel is computed in floating point.

// Size of a chart and of the room for its labels, in units of its viewBox.
const (
	chartWidth  = 720
	chartHeight = 260
	left        = 74
	right       = 12
	top         = 26
	bottom      = 34
)

// pixels is an amount as it is drawn, the only float that is made of one: the
// figures beside a chart are decimals, and none is computed from it.
func pixels(a bankfeed.Amount) float64 {
	d, err := decimal.NewFromString(a.String())
	if err != nil {
		return 0
	}
	f, _ := d.Float64()
	return f
}

// axis is a range of values with round steps.
type axis struct {
	low, high float64
	ticks     []int64 // in units of step
	step      float64
}

// newAxis makes room for values, with 0 in sight and three to seven lines.
func newAxis(low, high float64) axis {
	low, high = min(low, 0), max(high, 0)
	if high-low < 1 {
		high = low + 1
	}
	step := 1.0
	for (high-low)/step > 6 {
		switch lead := step / pow10(step); {
		case lead < 1.5:
			step *= 2
		case lead < 3:
			step *= 2.5
		default:
			step *= 2
		}
	}
	a := axis{step: step}
	first, last := floor(low/step), -floor(-high/step)
	a.low, a.high = float64(first)*step, float64(last)*step
	for i := first; i <= last; i++ {
		a.ticks = append(a.ticks, i)
	}
	return a
}

func pow10(v float64) float64 {
	p := 1.0
	for p*10 <= v {
		p *= 10
	}
	return p
}

func floor(v float64) int64 {
	n := int64(v)
	if float64(n) > v {
		n--
	}
	return n
}

func (a axis) y(v float64) float64 {
	return top + (a.high-v)/(a.high-a.low)*(chartHeight-top-bottom)
}

// svg writes one chart.
type svg struct {
	strings.Builder
	lang string
}

func (s *svg) begin(title, unit string) {
	fmt.Fprintf(s, `<svg class="chart" viewBox="0 0 %d %d" role="img" aria-label="%s"><title>%s</title>`, chartWidth, chartHeight, template.HTMLEscapeString(title), template.HTMLEscapeString(title))
	fmt.Fprintf(s, `<text class="unit" x="%d" y="10" text-anchor="end">%s</text>`, left-8, template.HTMLEscapeString(unit))
}

func (s *svg) grid(a axis) {
	for _, t := range a.ticks {
		v := float64(t) * a.step
		class := "grid"
		if v == 0 {
			class = "zero"
		}
		y := a.y(v)
		fmt.Fprintf(s, `<line class="%s" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, class, left, chartWidth-right, y, y)
		fmt.Fprintf(s, `<text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`, left-8, y+4, grouped(fmt.Sprintf("%.0f", v), s.lang))
	}
}

func (s *svg) label(x float64, text string) {
	fmt.Fprintf(s, `<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x, chartHeight-12, template.HTMLEscapeString(text))
}

func (s *svg) end() template.HTML {
	s.WriteString(`</svg>`)
	return template.HTML(s.String()) //nolint:gosec // numbers, and texts that were escaped
}

// maxPoints is more than a screen can show.
const maxPoints = 2000

// balanceChart draws a balance as steps: it holds from one day to the next.
func balanceChart(points []finapi.BalancePoint, to bankfeed.Date, title, unit, lang string) template.HTML {
	if len(points) == 0 {
		return ""
	}
	low, high := pixels(points[0].Balance.Amount), pixels(points[0].Balance.Amount)
	for _, p := range points {
		v := pixels(p.Balance.Amount)
		low, high = min(low, v), max(high, v)
	}
	a := newAxis(low, high)
	s := &svg{lang: lang}
	s.begin(title, unit)
	s.grid(a)
	first, days := points[0].Date, max(1, daysBetween(points[0].Date, to))
	x := func(d bankfeed.Date) float64 {
		return left + float64(daysBetween(first, d))/float64(days)*(chartWidth-left-right)
	}
	var path strings.Builder
	step := max(1, len(points)/maxPoints)
	fmt.Fprintf(&path, "M%.1f %.1f", x(first), a.y(pixels(points[0].Balance.Amount)))
	for i := 1; i < len(points); i++ {
		if i%step != 0 && i != len(points)-1 {
			continue
		}
		fmt.Fprintf(&path, "H%.1fV%.1f", x(points[i].Date), a.y(pixels(points[i].Balance.Amount)))
	}
	fmt.Fprintf(&path, "H%d", chartWidth-right)
	zero := a.y(0)
	fmt.Fprintf(s, `<path class="area" d="%sV%.1fH%dZ"/><path class="line" d="%s"/>`, path.String(), zero, left, path.String())
	for _, m := range monthTicks(first, to) {
		s.label(x(m), monthName(string(m[:7]), lang))
		fmt.Fprintf(s, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x(m), x(m), chartHeight-bottom, chartHeight-bottom+4)
	}
	return s.end()
}

// monthTicks are first days of months, eight at most.
func monthTicks(from, to bankfeed.Date) (ticks []bankfeed.Date) {
	months := max(1, daysBetween(from, to)/30)
	step := (months + 7) / 8
	t := (from[:7] + "-01").Time()
	for i := 0; ; i++ {
		d := bankfeed.DateOf(t.AddDate(0, i*step, 0))
		if d > to {
			return ticks
		}
		// A label at the very edge would be cut off.
		if d >= from && daysBetween(d, to)*30 >= daysBetween(from, to) {
			ticks = append(ticks, d)
		}
	}
}

// bar is a group of bars over one label.
type bar struct {
	label  string
	values []bankfeed.Amount
}

// barChart draws groups of bars; the classes give each bar of a group its color.
func barChart(bars []bar, classes []string, title, unit, lang string) template.HTML {
	if len(bars) == 0 {
		return ""
	}
	if len(bars) > maxBars {
		bars = bars[len(bars)-maxBars:]
	}
	low, high := 0.0, 0.0
	for _, b := range bars {
		for _, v := range b.values {
			low, high = min(low, pixels(v)), max(high, pixels(v))
		}
	}
	a := newAxis(low, high)
	s := &svg{lang: lang}
	s.begin(title, unit)
	s.grid(a)
	slot := float64(chartWidth-left-right) / float64(len(bars))
	width := min(slot*0.8/float64(len(classes)), 34)
	every := (len(bars) + 11) / 12
	for i, b := range bars {
		middle := left + (float64(i)+0.5)*slot
		for j, v := range b.values {
			y, zero := a.y(pixels(v)), a.y(0)
			fmt.Fprintf(s, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s</title></rect>`, classes[j],
				middle+(float64(j)-float64(len(classes))/2)*width, min(y, zero), width*0.92, max(y, zero)-min(y, zero),
				template.HTMLEscapeString(b.label+": "+money(num(v), lang)+" "+unit))
		}
		if i%every == 0 {
			s.label(middle, b.label)
		}
	}
	return s.end()
}

// maxBars is how many months fit; older ones are in the table.
const maxBars = 36
