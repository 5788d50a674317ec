//! HTTP through the client: its connection pool, base URL and access token, which it refreshes.
//!
//! The machine's requests are bytes, and so are their answers. A wrapper makes them a request of
//! ruma's, so that `Client::send` takes them. Every answer of the homeserver is an answer here,
//! whatever its status. The one exception is `M_UNKNOWN_TOKEN`, which the client has to see to
//! refresh its token.

use std::{fmt, time::Duration};

use bytes::BufMut;
use http::{Method, StatusCode, header};
use matrix_sdk::{
    Client, HttpError,
    config::RequestConfig,
    ruma::api::{
        EndpointError as _, IncomingResponse, Metadata, OutgoingRequest,
        auth_scheme::{AccessToken, AuthScheme as _, SendAccessToken},
        error::{Error as ApiError, ErrorKind, FromHttpResponseError, IntoHttpError},
        path_builder::SinglePath,
    },
};
use serde_json::{Value, json};

use crate::Error;

/// How long an answer may take, beside the time that a sync waits for news.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it goes onto the wire.
#[derive(Clone)]
pub(crate) struct Request {
    method: Method,
    path: String,
    content_type: String,
    body: Vec<u8>,
    /// How much longer than usual the answer may take.
    waits: Duration,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status; 0 where there was no answer.
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A request of the machine's.
    pub(crate) fn of_machine(request: &matrix_mls::OutgoingRequest) -> Result<Self, Error> {
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| {
            Error::BadAnswer { what: request.method.clone(), reason: "it is no method".into() }
        })?;
        Ok(Self {
            method,
            path: request.path.clone(),
            content_type: request.content_type.clone(),
            body: request.body.clone(),
            waits: Duration::ZERO,
        })
    }

    /// A request with a JSON body.
    pub(crate) fn json(method: Method, path: String, body: &Value) -> Self {
        let body = match method {
            Method::GET => Vec::new(),
            _ => body.to_string().into_bytes(),
        };
        let content_type = "application/json".to_owned();
        Self { method, path, content_type, body, waits: Duration::ZERO }
    }

    /// A request without a body.
    pub(crate) fn get(path: String) -> Self {
        Self::json(Method::GET, path, &Value::Null)
    }

    /// The same, where the homeserver may wait this long for news before it answers.
    pub(crate) fn waiting(mut self, longest: Duration) -> Self {
        self.waits = longest;
        self
    }

    /// What it is, without the query.
    pub(crate) fn name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }

    /// Sends it once. A lost answer is one with the status 0.
    pub(crate) async fn send(self, client: &Client) -> Result<Answer, Error> {
        let config = RequestConfig::new().disable_retry().timeout(PATIENCE + self.waits);
        match client.send(self).with_request_config(config).await {
            Ok(answer) => Ok(answer),
            Err(HttpError::Reqwest(error)) => {
                tracing::debug!(%error, "no answer");
                Ok(Answer { status: 0, body: Vec::new() })
            }
            Err(HttpError::IntoHttp(IntoHttpError::Authentication(_))) => Err(Error::NotLoggedIn),
            Err(error) => refused_token(&error).ok_or_else(|| Error::Http(Box::new(error))),
        }
    }

    /// Sends it once, and gives the JSON of a success.
    pub(crate) async fn send_json(self, client: &Client) -> Result<Value, Error> {
        let what = self.name();
        self.send(client).await?.success(what)
    }
}

impl Answer {
    /// The JSON of a success, or what the answer says instead.
    pub(crate) fn success(self, what: String) -> Result<Value, Error> {
        let json = serde_json::from_slice::<Value>(&self.body);
        let text = |name: &str| {
            let value = json.as_ref().ok().and_then(|json| json.get(name)).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        match self.status {
            0 => Err(Error::NoAnswer { what }),
            200..300 => json.map_err(|error| Error::BadAnswer { what, reason: error.to_string() }),
            401 if !text("errcode").is_empty() => {
                Err(Error::Unauthorized { code: text("errcode") })
            }
            status => Err(Error::Refused {
                what,
                status,
                code: text("errcode"),
                reason: text("error"),
                retry_after_ms: json
                    .as_ref()
                    .ok()
                    .and_then(|json| json.get("retry_after_ms"))
                    .and_then(Value::as_u64),
            }),
        }
    }
}

/// The answer behind an error that says that the access token is refused, also after the client has
/// tried to get another.
fn refused_token(error: &HttpError) -> Option<Answer> {
    let soft_logout = match error.client_api_error_kind() {
        Some(ErrorKind::UnknownToken(data)) => data.soft_logout,
        _ if matches!(error, HttpError::RefreshToken(_)) => false,
        _ => return None,
    };
    let body = json!({
        "errcode": "M_UNKNOWN_TOKEN", "soft_logout": soft_logout,
        "error": "the access token is refused, and could not be refreshed",
    });
    Some(Answer { status: 401, body: body.to_string().into_bytes() })
}

/// Leaves out the query and the body.
impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Request({}, {} bytes)", self.name(), self.body.len())
    }
}

impl Metadata for Request {
    // The method and the path of each request are its own.
    const METHOD: Method = Method::POST;
    const RATE_LIMITED: bool = true;
    type Authentication = AccessToken;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new("/_matrix/client");
}

impl OutgoingRequest for Request {
    type EndpointError = ApiError;
    type IncomingResponse = Answer;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        access_token: SendAccessToken<'_>,
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        let url = format!("{}{}", base_url.trim_end_matches('/'), self.path);
        let has_body = self.method != Method::GET;
        let mut request = http::Request::builder().method(self.method).uri(url);
        if has_body {
            request = request
                .header(header::CONTENT_TYPE, self.content_type)
                .header(header::CONTENT_LENGTH, self.body.len());
        }
        let mut body = T::default();
        if has_body {
            body.put_slice(&self.body);
        }
        let mut request = request.body(body)?;
        AccessToken::add_authentication(&mut request, access_token)
            .map_err(|error| IntoHttpError::Authentication(Box::new(error)))?;
        Ok(request)
    }
}

impl IncomingResponse for Answer {
    type EndpointError = ApiError;

    fn try_from_http_response<T: AsRef<[u8]>>(
        response: http::Response<T>,
    ) -> Result<Self, FromHttpResponseError<ApiError>> {
        let status = response.status();
        let body = response.body().as_ref().to_vec();
        if status == StatusCode::UNAUTHORIZED {
            let error = ApiError::from_http_response(response);
            if matches!(error.error_kind(), Some(ErrorKind::UnknownToken(_))) {
                return Err(FromHttpResponseError::Server(error));
            }
        }
        Ok(Self { status: status.as_u16(), body })
    }
}

/// Percent-encodes a path segment.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}
