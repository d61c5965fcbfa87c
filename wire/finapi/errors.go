package finapi

// Errors is the body of every answer that is not a success, but for a 401.
type Errors struct {
	Errors    []Error `json:"errors" nullable:"false"`
	Date      Time    `json:"date"`
	RequestID string  `json:"requestId" doc:"That of the header X-Request-Id."`
	Endpoint  string  `json:"endpoint" example:"POST /api/v1/dataSources/bankConnections/synchronization"`
}

// Error is one thing that is wrong.
type Error struct {
	Message string    `json:"message" doc:"For the developer. It never repeats a value that was sent."`
	Code    ErrorCode `json:"code" doc:"What went wrong; the list may grow."`
	Type    ErrorType `json:"type"`
}

// Unauthorized is the body of a 401 (RFC 6750).
type Unauthorized struct {
	Code        string `json:"error" doc:"invalid_token"`
	Description string `json:"error_description"`
}

// InvalidToken is the code of every 401.
const InvalidToken = "invalid_token"

// ErrorCode says what went wrong.
type ErrorCode string

// Error codes; the last one is extra.
const (
	CodeBadRequest           ErrorCode = "BAD_REQUEST"         // the request cannot be read
	CodeMissingField         ErrorCode = "MISSING_FIELD"       // a member or parameter that is needed is absent
	CodeIllegalFieldValue    ErrorCode = "ILLEGAL_FIELD_VALUE" // a member or parameter is wrong
	CodeForbidden            ErrorCode = "FORBIDDEN"           // the token does not reach this far
	CodeUnknownEntity        ErrorCode = "UNKNOWN_ENTITY"      // unknown, expired and foreign ids alike
	CodeMethodNotAllowed     ErrorCode = "METHOD_NOT_ALLOWED"
	CodeUnsupportedMediaType ErrorCode = "UNSUPPORTED_MEDIA_TYPE"
	CodeEntityExists         ErrorCode = "ENTITY_EXISTS"
	CodeIllegalEntityState   ErrorCode = "ILLEGAL_ENTITY_STATE" // not possible in the present state
	CodeLocked               ErrorCode = "LOCKED"               // not while it is being worked on
	CodeBankServerRejection  ErrorCode = "BANK_SERVER_REJECTION"
	CodeUnexpectedError      ErrorCode = "UNEXPECTED_ERROR"
	CodeTooManyRequests      ErrorCode = "TOO_MANY_REQUESTS"
)

// ErrorCodes lists every code.
var ErrorCodes = []ErrorCode{
	CodeBadRequest, CodeMissingField, CodeIllegalFieldValue, CodeForbidden, CodeUnknownEntity, CodeMethodNotAllowed, CodeUnsupportedMediaType,
	CodeEntityExists, CodeIllegalEntityState, CodeLocked, CodeBankServerRejection, CodeUnexpectedError, CodeTooManyRequests,
}

// ErrorType says on whose side the cause is.
type ErrorType string

// Error types.
const (
	Business  ErrorType = "BUSINESS"
	Technical ErrorType = "TECHNICAL" // of the hub or a bank
)

// ErrorTypes lists both.
var ErrorTypes = []ErrorType{Business, Technical}

// Web Form 2.0 has error bodies of its own.

// FormError is the body of an error there.
type FormError struct {
	Code        ErrorCode `json:"code"`
	Description string    `json:"description" doc:"For the developer. It never repeats a value that was sent."`
	Timestamp   FormTime  `json:"timestamp"`
	Endpoint    string    `json:"endpoint" example:"POST /api/webForms/bankConnectionImport"`
}

// FormErrors is the body there of a request that is wrong.
type FormErrors struct {
	Errors    []FieldError `json:"errors" nullable:"false"`
	Timestamp FormTime     `json:"timestamp"`
	Endpoint  string       `json:"endpoint"`
}

// FieldError is one field at fault.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}
