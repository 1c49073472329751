//! Errors of Redfish (DSP0266, section "Error responses") with messages of the Base registry.

use hyper::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::httpd::Reply;

/// An error answer.
pub struct Fault {
    status: StatusCode,
    id: &'static str,
    message: String,
    arguments: Vec<String>,
    resolution: &'static str,
}

impl Fault {
    fn new(
        status: StatusCode,
        id: &'static str,
        message: impl Into<String>,
        arguments: &[&str],
        resolution: &'static str,
    ) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { status, id, message: message.into(), arguments, resolution }
    }

    fn bad(id: &'static str, message: impl Into<String>, arguments: &[&str], resolution: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, id, message, arguments, resolution)
    }

    /// An error in words.
    pub fn general(status: StatusCode, message: &str) -> Self {
        Self::new(status, "GeneralError", message, &[], "None.")
    }

    /// 404.
    pub fn missing(path: &str) -> Self {
        let id = path.rsplit('/').next().unwrap_or_default();
        let message = format!("The requested resource of type Resource named '{id}' was not found.");
        Self::new(
            StatusCode::NOT_FOUND,
            "ResourceMissingAtURI",
            message,
            &[path],
            "Provide a valid resource identifier.",
        )
    }

    /// 401.
    pub fn unauthorized() -> Self {
        let message = "The service denied access: invalid user name, password or token.";
        Self::new(StatusCode::UNAUTHORIZED, "AccessDenied", message, &[], "Log in with valid credentials.")
    }

    /// 403.
    pub fn forbidden() -> Self {
        let message = "There are insufficient privileges for the account or credentials of this session.";
        Self::new(StatusCode::FORBIDDEN, "InsufficientPrivilege", message, &[], "Use an account with the privileges.")
    }

    /// 405.
    pub fn method(method: &Method) -> Self {
        let message = format!("The operation {method} is not allowed on this resource.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "OperationNotAllowed", message, &[], "None.")
    }

    /// 412.
    pub fn precondition() -> Self {
        let message = "The ETag supplied did not match the ETag required to change this resource.";
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message, &[], "Read the resource again.")
    }

    /// 400, body is no JSON object.
    pub fn malformed() -> Self {
        let message = "The request body submitted was malformed JSON and could not be parsed by the receiving service.";
        Self::bad("MalformedJSON", message, &[], "Ensure that the request body is valid JSON.")
    }

    /// 400, a property is not known.
    pub fn unknown(property: &str) -> Self {
        let message = format!("The property {property} is not in the list of valid properties for the resource.");
        Self::bad("PropertyUnknown", message, &[property], "Remove the unknown property.")
    }

    /// 400, a property is missing.
    pub fn required(property: &str) -> Self {
        let message = format!("The property {property} is a required property and must be included in the request.");
        Self::bad("PropertyMissing", message, &[property], "Include the property.")
    }

    /// 400, a property has the wrong type. Its value is not repeated: it might be a password.
    pub fn kind(property: &str) -> Self {
        let message = format!("The value for the property {property} is of a different type than it can accept.");
        Self::bad("PropertyValueTypeError", message, &["******", property], "Correct the value.")
    }

    /// 400, a value is not in the list.
    pub fn value(property: &str, value: &str) -> Self {
        let message =
            format!("The value '{value}' for the property {property} is not in the list of acceptable values.");
        Self::bad("PropertyValueNotInList", message, &[value, property], "Choose a value from the enumeration list.")
    }

    /// 400, a parameter of an action is not in the list.
    pub fn parameter(action: &str, name: &str, value: &str) -> Self {
        let message = format!("The value '{value}' for the parameter {name} in the action {action} is not supported.");
        Self::bad("ActionParameterNotSupported", message, &[name, action], "Choose a supported value.")
    }

    /// The machine is already in the state that is asked for.
    pub fn state(status: StatusCode, message: &str) -> Self {
        Self::new(status, "ResourceInUse", message, &[], "Read the state and try again.")
    }

    /// 503, too many sessions.
    pub fn sessions() -> Self {
        let message = "The number of simultaneous sessions exceeds the limit of the implementation.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SessionLimitExceeded", message, &[], "Close other sessions.")
    }

    /// Body of the answer.
    pub fn body(&self) -> Value {
        let severity = if self.status.is_server_error() { "Critical" } else { "Warning" };
        let id = format!("Base.1.13.{}", self.id);
        json!({"error": {
            "code": id, "message": self.message,
            "@Message.ExtendedInfo": [{
                "@odata.type": "#Message.v1_1_1.Message", "MessageId": id, "Message": self.message,
                "MessageArgs": self.arguments, "Severity": severity, "Resolution": self.resolution,
            }],
        }})
    }

    /// The answer.
    pub fn reply(&self) -> Reply {
        let reply = Reply::json(self.status, &self.body());
        if self.status == StatusCode::UNAUTHORIZED {
            return reply.with(header::WWW_AUTHENTICATE, "Basic realm=\"RedfishService\"");
        }
        reply
    }
}
