package asyncapi

// The parts of AsyncAPI 3.0 that are used, and of its bindings for AMQP 0-9-1.

type document struct {
	AsyncAPI           string               `json:"asyncapi"`
	Info               info                 `json:"info"`
	DefaultContentType string               `json:"defaultContentType"`
	Servers            map[string]server    `json:"servers,omitempty"`
	Channels           map[string]channel   `json:"channels"`
	Operations         map[string]operation `json:"operations"`
	Components         components           `json:"components"`
}

type info struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description"`
}

type server struct {
	Host            string      `json:"host"`
	Pathname        string      `json:"pathname,omitempty"`
	Protocol        string      `json:"protocol"`
	ProtocolVersion string      `json:"protocolVersion"`
	Description     string      `json:"description"`
	Security        []reference `json:"security"`
}

type channel struct {
	Address  string               `json:"address"`
	Title    string               `json:"title"`
	Summary  string               `json:"summary"`
	Servers  []reference          `json:"servers,omitempty"` // none: all
	Messages map[string]reference `json:"messages"`
	Bindings map[string]any       `json:"bindings"`
}

type operation struct {
	Action   string         `json:"action"`
	Summary  string         `json:"summary"`
	Channel  reference      `json:"channel"`
	Messages []reference    `json:"messages"`
	Bindings map[string]any `json:"bindings"`
}

type message struct {
	Name        string  `json:"name"`
	Title       string  `json:"title"`
	Summary     string  `json:"summary"`
	ContentType string  `json:"contentType"`
	Headers     *schema `json:"headers"`
	Payload     *schema `json:"payload"`
}

type components struct {
	Messages        map[string]message        `json:"messages"`
	Schemas         map[string]*schema        `json:"schemas"`
	SecuritySchemes map[string]securityScheme `json:"securitySchemes"`
}

type securityScheme struct {
	Type        string `json:"type"`
	Description string `json:"description"`
}

type reference struct {
	Ref string `json:"$ref"`
}

const bindingVersion = "0.3.0"

type channelBinding struct {
	Is             string   `json:"is"`
	Exchange       exchange `json:"exchange"`
	BindingVersion string   `json:"bindingVersion"`
}

type exchange struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Durable    bool   `json:"durable"`
	AutoDelete bool   `json:"autoDelete"`
}

type operationBinding struct {
	DeliveryMode   uint8  `json:"deliveryMode"`
	Mandatory      bool   `json:"mandatory"`
	BindingVersion string `json:"bindingVersion"`
}

// schema is JSON Schema, draft 7, as AsyncAPI has it.
type schema struct {
	Ref                  string             `json:"$ref,omitempty"`
	Type                 any                `json:"type,omitempty"` // a name or several
	Format               string             `json:"format,omitempty"`
	Pattern              string             `json:"pattern,omitempty"`
	Description          string             `json:"description,omitempty"`
	Enum                 []string           `json:"enum,omitempty"`
	Const                string             `json:"const,omitempty"`
	Minimum              *int64             `json:"minimum,omitempty"`
	Maximum              *int64             `json:"maximum,omitempty"`
	Items                *schema            `json:"items,omitempty"`
	Contains             *schema            `json:"contains,omitempty"`
	Properties           map[string]*schema `json:"properties,omitempty"`
	Required             []string           `json:"required,omitempty"`
	PropertyNames        *schema            `json:"propertyNames,omitempty"`
	AdditionalProperties *schema            `json:"additionalProperties,omitempty"`
}
