package berlingroup

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/bankfeed/bankfeed"
)

const (
	maxMethods = 50
	maxImage   = 512 << 10 // decoded (1.3.12, challengeData)
)

type method struct {
	ID   string `json:"id"`
	Type string `json:"type,omitempty"`
	Name string `json:"name,omitempty"`
}

// authorisation is what a bank says in answer to any step of consent and SCA;
// the shapes of the standard differ only in which members they have.
type authorisation struct {
	consentID       string
	consentStatus   string
	authorisationID string
	scaStatus       string
	psuMessage      string
	methods         []method
	chosen          method
	challenge       challenge
	links           map[string]string // as the bank wrote them
	validUntil      bankfeed.Date
	frequency       string
}

type challenge struct {
	image  string
	data   []string
	link   string
	maxLen string
	format string
	info   string
}

func decodeAuthorisation(data []byte) (a authorisation, err error) {
	r := newReader(data)
	a.links = map[string]string{}
	err = r.object(func(key []byte) (err error) {
		switch string(key) {
		case "consentId":
			a.consentID, err = r.text()
		case "consentStatus":
			a.consentStatus, err = r.text()
		case "authorisationId":
			a.authorisationID, err = r.text()
		case "scaStatus":
			a.scaStatus, err = r.text()
		case "psuMessage":
			a.psuMessage, err = r.text()
		case "scaMethods":
			err = r.list(func() error {
				m, err := r.method()
				if m.ID != "" && len(a.methods) < maxMethods {
					a.methods = append(a.methods, m)
				}
				return err
			})
		case "chosenScaMethod":
			a.chosen, err = r.method()
		case "challengeData":
			a.challenge, err = r.challenge()
		case "_links":
			err = r.links(func(name, href string) { a.links[name] = href })
		case "validUntil":
			a.validUntil, err = r.date()
		case "frequencyPerDay":
			a.frequency, err = r.text()
		default:
			err = r.skip()
		}
		return err
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return authorisation{}, rooted(err)
	}
	return a, nil
}

func (r *reader) method() (m method, err error) {
	if r.peek() != '{' {
		return m, r.skip()
	}
	err = r.object(func(key []byte) (err error) {
		switch string(key) {
		case "authenticationMethodId":
			m.ID, err = r.text()
		case "authenticationType":
			m.Type, err = r.text()
		case "name":
			m.Name, err = r.text()
		default:
			err = r.skip()
		}
		return err
	})
	return m, err
}

func (r *reader) challenge() (c challenge, err error) {
	err = r.object(func(key []byte) (err error) {
		switch string(key) {
		case "image":
			c.image, err = r.text()
		case "data":
			err = r.texts(&c.data)
		case "imageLink":
			c.link, err = r.text()
		case "otpMaxLength":
			c.maxLen, err = r.text()
		case "otpFormat":
			c.format, err = r.text()
		case "additionalInformation":
			c.info, err = r.text()
		default:
			err = r.skip()
		}
		return err
	})
	return c, err
}

// ask builds the challenge for a one-time code.
func (a *authorisation) ask(kind bankfeed.ChallengeKind, s *state) *bankfeed.Challenge {
	c := &bankfeed.Challenge{Kind: kind, Method: s.Method, Text: a.words()}
	switch f := strings.ToLower(a.challenge.format); f {
	case "integer", "characters":
		c.Format = f
	}
	if n, err := strconv.Atoi(a.challenge.maxLen); err == nil && n > 0 && n <= 1000 {
		c.MaxLen = n
	}
	c.Image = image(a.challenge.image)
	return c
}

// words is all the bank wants its PSU to read.
func (a *authorisation) words() string {
	var parts []string
	for _, p := range append([]string{a.psuMessage, a.challenge.info}, append(a.challenge.data, a.challenge.link)...) {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, "\n")
}

// image decodes a picture, with or without the prefix of a data URL.
func image(s string) []byte {
	if strings.HasPrefix(s, "data:") {
		_, s, _ = strings.Cut(s, ",")
	}
	b, err := base64.StdEncoding.DecodeString(s) // ignores line breaks
	if err != nil || len(b) == 0 || len(b) > maxImage {
		return nil
	}
	return b
}

func readAuthorisation(ans answer) (authorisation, error) {
	if err := ans.jsonOnly(false); err != nil {
		return authorisation{}, err
	}
	a, err := decodeAuthorisation(ans.body)
	if err != nil {
		return a, unreadable(ans.status, err)
	}
	return a, nil
}
