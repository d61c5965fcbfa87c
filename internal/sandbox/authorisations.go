package sandbox

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
)

// The scaStatus values this bank uses.
const (
	scaReceived       = "received"
	scaAuthenticated  = "psuAuthenticated"
	scaMethodSelected = "scaMethodSelected"
	scaFinalised      = "finalised"
	scaFailed         = "failed"
)

const (
	codeLifetime = 5 * time.Minute
	maxTries     = 3
)

// authorisation is an authorisation sub-resource of a consent.
type authorisation struct {
	ID         string    `json:"id"`
	Consent    string    `json:"consent"`
	Status     string    `json:"status"`
	PSU        string    `json:"psu"`
	Method     string    `json:"method,omitempty"`
	Challenged time.Time `json:"challenged"` // when the one-time code was sent
	Created    time.Time `json:"created"`
	WrongCodes int       `json:"wrongCodes,omitempty"`
	FormToken  string    `json:"formToken"` // must come back with the next form of the SCA page
}

func (a *authorisation) open() bool { return a.Status != scaFinalised && a.Status != scaFailed }

// newAuthorisation adds an authorisation to a consent. The caller holds mu.
func (b *Bank) newAuthorisation(con *consent) *authorisation {
	a := &authorisation{ID: uuid.NewString(), Consent: con.ID, Status: scaReceived, PSU: con.PSU, Created: b.now(), FormToken: rand.Text()}
	b.state.Authorisations[a.ID] = a
	con.Authorisations = append(con.Authorisations, a.ID)
	b.changed()
	return a
}

// fail ends an authorisation and, as nobody else can give it, its consent. The caller holds mu.
func (b *Bank) fail(a *authorisation) {
	a.Status = scaFailed
	if con := b.state.Consents[a.Consent]; con != nil && con.Status == statusReceived {
		b.end(con, statusRejected)
	}
	b.changed()
}

// logIn checks login and password for an authorisation. On success the
// authorisation belongs to the user. The caller holds mu.
func (b *Bank) logIn(con *consent, a *authorisation, login, password string) (testUser, error) {
	u, ok := lookupUser(login)
	var us *userState
	if ok {
		us = b.user(u.Login)
	}
	right := subtle.ConstantTimeCompare([]byte(password), []byte(Password)) == 1
	if !ok || !right || u.Segment != con.Segment || u.has(flawWrongPassword, us) || (con.PSU != "" && con.PSU != login) {
		con.WrongPasswords++
		b.changed()
		if con.WrongPasswords >= maxTries {
			b.fail(a)
		}
		return u, &fault{status: 401, code: "PSU_CREDENTIALS_INVALID", text: "The user name or the password is wrong."}
	}
	if err := blocked(u, us, true); err != nil {
		return u, err
	}
	con.PSU, a.PSU = u.Login, u.Login
	a.Status = scaAuthenticated
	if len(u.methods) == 1 {
		b.challenge(a, u.methods[0])
	}
	b.changed()
	return u, nil
}

// blocked tells what keeps a user out of the bank altogether. At login the
// user's built-in flaw counts too; later only what events did.
func blocked(u testUser, us *userState, login bool) error {
	if us.PasswordExpired || (login && u.has(flawPasswordChange, us)) {
		return &fault{status: 401, code: "PSU_CREDENTIALS_INVALID", text: textPasswordExpired}
	}
	if us.ActionRequired || (login && u.has(flawUserAction, us)) {
		return &fault{status: 403, code: "SERVICE_BLOCKED", text: textActionRequired}
	}
	return nil
}

// challenge sends the one-time code. The caller holds mu.
func (b *Bank) challenge(a *authorisation, m scaMethod) {
	a.Status, a.Method, a.Challenged = scaMethodSelected, m.ID, b.now()
	b.changed()
}

var errLateCode = &fault{status: 400, code: "SCA_INVALID", text: "The one-time code came too late; it is valid for five minutes."}

// checkCode finishes an authorisation with a one-time code. The caller holds mu.
func (b *Bank) checkCode(con *consent, a *authorisation, u testUser, code string) error {
	us := b.user(u.Login)
	if err := blocked(u, us, true); err != nil {
		return err
	}
	if u.has(flawLateCode, us) || b.now().Sub(a.Challenged) > codeLifetime {
		b.fail(a)
		return errLateCode
	}
	if code != Code || u.has(flawWrongCode, us) {
		a.WrongCodes++
		b.changed()
		if a.WrongCodes >= maxTries {
			b.fail(a)
			return &fault{status: 400, code: "SCA_INVALID", text: "The one-time code is wrong; there are no tries left."}
		}
		return &fault{status: 400, code: "SCA_INVALID", text: "The one-time code is wrong."}
	}
	a.Status = scaFinalised
	con.Status, con.LastAction = statusValid, b.now()
	if con.Recurring {
		b.replaceOlder(con)
	}
	b.changed()
	return nil
}

// replaceOlder expires the recurring consents that a new one takes the place
// of: one per PSU and API, as the standard has it. The caller holds mu.
func (b *Bank) replaceOlder(con *consent) {
	for _, old := range b.state.Consents {
		if old != con && old.Recurring && old.Status == statusValid && old.PSU == con.PSU && old.Channel == con.Channel && old.Segment == con.Segment && old.Mask == con.Mask {
			b.end(old, statusExpired)
		}
	}
}

// psuUpdate is the body of a start or an update of an authorisation.
type psuUpdate struct {
	PSUData *struct {
		Password string `json:"password"`
	} `json:"psuData"`
	Method *string `json:"authenticationMethodId"`
	Code   *string `json:"scaAuthenticationData"`
}

func (b *Bank) startAuthorisation(c *call) (reply, error) {
	h := c.r.Header
	var q psuUpdate
	if err := c.decode(&q); err != nil {
		return reply{}, err
	}
	for _, name := range []string{"TPP-Redirect-URI", "TPP-Nok-Redirect-URI"} {
		if err := callbackURI(name, h.Get(name), false); err != nil {
			return reply{}, err
		}
	}
	if err := b.delayLogin(c); err != nil {
		return reply{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	con, err := b.consentByPath(c)
	if err != nil {
		return reply{}, err
	}
	if con.Status != statusReceived {
		return reply{}, &fault{status: 409, code: "STATUS_INVALID", text: "The consent cannot be authorised any more."}
	}
	self := c.base + "/v1/consents/" + con.ID + "/authorisations/"
	if c.channel == redirect {
		if uri := h.Get("TPP-Redirect-URI"); uri != "" {
			con.RedirectURI = uri
		}
		if uri := h.Get("TPP-Nok-Redirect-URI"); uri != "" {
			con.NokURI = uri
		}
		a := b.newAuthorisation(con)
		return reply{status: http.StatusCreated, header: map[string]string{"ASPSP-SCA-Approach": "REDIRECT"}, body: map[string]any{
			"scaStatus": a.Status, "authorisationId": a.ID,
			"_links": map[string]link{"scaRedirect": {c.pages + "/sca/" + con.Segment + "/" + a.ID}, "scaStatus": {self + a.ID}},
		}}, nil
	}
	a := b.newAuthorisation(con)
	body := map[string]any{"authorisationId": a.ID}
	if q.PSUData != nil {
		login := h.Get("PSU-ID")
		if login == "" {
			login = con.PSU
		}
		if login == "" {
			b.discard(con, a)
			return reply{}, formatError("PSU-ID", "The header PSU-ID is mandatory here.")
		}
		u, err := b.logIn(con, a, login, q.PSUData.Password)
		if err != nil {
			if a.open() {
				b.discard(con, a)
			}
			return reply{}, err
		}
		b.progress(body, a, u, self+a.ID)
	} else {
		body["scaStatus"] = a.Status
		body["_links"] = map[string]link{"updatePsuAuthentication": {self + a.ID}, "scaStatus": {self + a.ID}}
	}
	return reply{status: http.StatusCreated, header: map[string]string{"ASPSP-SCA-Approach": "EMBEDDED"}, body: body}, nil
}

// discard takes back an authorisation that the TPP was never told of. The caller holds mu.
func (b *Bank) discard(con *consent, a *authorisation) {
	delete(b.state.Authorisations, a.ID)
	con.Authorisations = slices.DeleteFunc(con.Authorisations, func(id string) bool { return id == a.ID })
}

// delayLogin lets a slow user be slow on calls that name the user in a header.
func (b *Bank) delayLogin(c *call) error {
	u, ok := lookupUser(c.r.Header.Get("PSU-ID"))
	if !ok {
		return nil
	}
	b.mu.Lock()
	ms := delayOf(u, b.user(u.Login))
	b.mu.Unlock()
	return wait(c, ms)
}

// progress adds to a body what the TPP can do next with an authorisation.
func (b *Bank) progress(body map[string]any, a *authorisation, u testUser, self string) {
	links := map[string]link{"scaStatus": {self}}
	body["scaStatus"] = a.Status
	switch a.Status {
	case scaAuthenticated:
		body["scaMethods"] = u.methods
		links["selectAuthenticationMethod"] = link{self}
	case scaMethodSelected:
		m := u.methods[slices.IndexFunc(u.methods, func(m scaMethod) bool { return m.ID == a.Method })]
		body["chosenScaMethod"] = m
		body["challengeData"] = challengeFor(m, a.ID)
		body["psuMessage"] = "Please enter the code from " + m.Name + "."
		links["authoriseTransaction"] = link{self}
	}
	body["_links"] = links
}

func challengeFor(m scaMethod, seed string) challenge {
	ch := challenge{OTPMaxLength: len(Code), OTPFormat: "integer",
		AdditionalInformation: "Enter the six digits sent by " + m.Name + ". In this test bank the code is " + Code + "."}
	if m.Type == methodChip.Type {
		ch.Image = photoTAN(hash(seed))
		ch.Data = []string{"Start 08", "Consent " + seed[:8]}
	}
	return ch
}

// photoTAN draws a PNG that looks like what such readers scan, as base64.
func photoTAN(seed uint64) string {
	const cells, size = 16, 8
	colours := []color.Color{color.White, color.RGBA{R: 200, A: 255}, color.RGBA{G: 150, A: 255}, color.RGBA{B: 200, A: 255}}
	palette := color.Palette(colours)
	img := image.NewPaletted(image.Rect(0, 0, cells*size, cells*size), palette)
	d := dice(seed)
	for y := range cells {
		for x := range cells {
			i := uint8(d.below(len(colours)))
			for p := range size * size {
				img.SetColorIndex(x*size+p%size, y*size+p/size, i)
			}
		}
	}
	var buf bytes.Buffer
	_ = png.Encode(&buf, img) // a bytes.Buffer takes everything
	return base64.StdEncoding.EncodeToString(buf.Bytes())
}

// authorisationByPath finds the authorisation named in the URL. The caller holds mu.
func (b *Bank) authorisationByPath(c *call) (*consent, *authorisation, error) {
	con, err := b.consentByPath(c)
	if err != nil {
		return nil, nil, err
	}
	a := b.state.Authorisations[c.value("authorisation")]
	if a == nil || a.Consent != con.ID {
		return nil, nil, errUnknownResource
	}
	return con, a, nil
}

func (b *Bank) updateAuthorisation(c *call) (reply, error) {
	var q psuUpdate
	if err := c.decode(&q); err != nil {
		return reply{}, err
	}
	if err := b.delayLogin(c); err != nil {
		return reply{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	con, a, err := b.authorisationByPath(c)
	if err != nil {
		return reply{}, err
	}
	if c.channel != embedded || !a.open() || con.Status != statusReceived {
		return reply{}, &fault{status: 409, code: "STATUS_INVALID", text: "The authorisation takes no updates."}
	}
	u, _ := lookupUser(a.PSU)
	switch {
	case q.PSUData != nil && a.Status == scaReceived:
		login := c.r.Header.Get("PSU-ID")
		if login == "" {
			login = con.PSU
		}
		if u, err = b.logIn(con, a, login, q.PSUData.Password); err != nil {
			return reply{}, err
		}
	case q.Method != nil && (a.Status == scaAuthenticated || a.Status == scaMethodSelected):
		i := slices.IndexFunc(u.methods, func(m scaMethod) bool { return m.ID == *q.Method })
		if i < 0 {
			return reply{}, &fault{status: 400, code: "SCA_METHOD_UNKNOWN", path: "authenticationMethodId", text: "The user has no such method."}
		}
		b.challenge(a, u.methods[i])
	case q.Code != nil && a.Status == scaMethodSelected:
		if err := b.checkCode(con, a, u, *q.Code); err != nil {
			return reply{}, err
		}
	case q.PSUData == nil && q.Method == nil && q.Code == nil:
		return reply{}, formatError("", "The body has none of psuData, authenticationMethodId and scaAuthenticationData.")
	default:
		return reply{}, &fault{status: 409, code: "STATUS_INVALID", text: "The authorisation expects another step."}
	}
	body := map[string]any{}
	b.progress(body, a, u, c.base+"/v1/consents/"+con.ID+"/authorisations/"+a.ID)
	return reply{status: http.StatusOK, header: map[string]string{"ASPSP-SCA-Approach": "EMBEDDED"}, body: body}, nil
}

func (b *Bank) getAuthorisation(c *call) (reply, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, a, err := b.authorisationByPath(c)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: map[string]string{"scaStatus": a.Status}}, nil
}

func (b *Bank) listAuthorisations(c *call) (reply, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	con, err := b.consentByPath(c)
	if err != nil {
		return reply{}, err
	}
	ids := append([]string{}, con.Authorisations...)
	return reply{status: http.StatusOK, body: map[string]any{"authorisationIds": ids}}, nil
}

// messageOf is the text of a fault, for pages.
func messageOf(err error) string {
	var f *fault
	if errors.As(err, &f) {
		return f.text
	}
	return "Something went wrong."
}
