//! One device's HTTP requests to its homeserver, and what to do when one is not answered.

use std::{fmt, time::Duration};

use reqwest::{
    Client as HttpClient, Method,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::{Value, json};

use crate::KitError;

/// How often a request that may be repeated is sent at most.
const ATTEMPTS: u32 = 6;
/// The longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What the homeserver answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Sends requests as one device.
#[derive(Clone)]
pub struct Http {
    client: HttpClient,
    base_url: String,
    access_token: Option<String>,
    /// Who is named when something fails.
    device: String,
}

impl fmt::Debug for Http {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Http").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Http {
    /// Requests without an access token. `device` names the sender in errors.
    pub fn new(base_url: &str, device: &str) -> Result<Self, KitError> {
        let client = HttpClient::builder()
            .no_proxy()
            .timeout(Duration::from_secs(150))
            .build()
            .map_err(|error| KitError::Setup(format!("making an HTTP client: {error}")))?;
        let (base_url, device) = (base_url.to_owned(), device.to_owned());
        Ok(Self { client, base_url, access_token: None, device })
    }

    /// Registers an account with one device: its user id, and the device's requests.
    pub async fn register(
        base_url: &str,
        username: &str,
        device_id: &str,
    ) -> Result<(String, Self), KitError> {
        let http = Self::new(base_url, &format!("{username}/{device_id}"))?;
        let path = "/_matrix/client/v3/register";
        let request = json!({
            "username": username, "password": "p", "device_id": device_id,
            "auth": { "type": "m.login.dummy" },
        });
        let answer = http.post(path, request).await?;
        match (answer["user_id"].as_str(), answer["access_token"].as_str()) {
            (Some(user_id), Some(token)) => Ok((user_id.to_owned(), http.with_token(token))),
            _ => Err(KitError::BadAnswer {
                device: http.device,
                what: format!("POST {path}"),
                answer: answer.to_string(),
            }),
        }
    }

    /// The same with an access token.
    pub fn with_token(mut self, access_token: &str) -> Self {
        self.access_token = Some(access_token.to_owned());
        self
    }

    /// Sends a request once; a `GET` without a body. `path` begins with `/_matrix`.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Answer, KitError> {
        let what = || format!("{method} {path}");
        let verb = Method::from_bytes(method.as_bytes())
            .map_err(|_| KitError::Setup(format!("{method} is no HTTP method")))?;
        let mut request = self.client.request(verb, format!("{}{path}", self.base_url));
        if let Some(token) = &self.access_token {
            request = request.bearer_auth(token);
        }
        if method != "GET" {
            // The length is not sent of itself where it is zero, and an upload must say it.
            request = request
                .header(CONTENT_TYPE, content_type)
                .header(CONTENT_LENGTH, body.len())
                .body(body);
        }
        let lost = |error: reqwest::Error| KitError::NoAnswer {
            device: self.device.clone(),
            what: what(),
            reason: format!("{error:?}"),
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(lost)?;
        Ok(Answer { status, body: body.to_vec() })
    }

    /// Sends a JSON request once and gives the answer, whatever its status.
    pub async fn try_json(
        &self,
        method: &str,
        path: &str,
        body: Value,
    ) -> Result<Answer, KitError> {
        self.send(method, path, "application/json", body.to_string().into_bytes()).await
    }

    /// Sends a JSON request and gives the answer of a success. Waits where the server asks for
    /// it; repeats what may be repeated (`GET` and `PUT`) when the answer is lost or a 5xx.
    pub async fn json(&self, method: &str, path: &str, body: Value) -> Result<Value, KitError> {
        let repeatable = method != "POST";
        let mut attempt = 0;
        loop {
            attempt += 1;
            let last = attempt == ATTEMPTS;
            let backoff = Duration::from_millis(25 << attempt);
            let wait = match self.try_json(method, path, body.clone()).await {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    return self.parse(method, path, &answer);
                }
                Ok(answer) if answer.status == 429 && !last => {
                    let asked = answer.json()["retry_after_ms"].as_u64();
                    asked.map_or(backoff, Duration::from_millis).min(LONGEST_WAIT)
                }
                Ok(answer) if answer.status >= 500 && repeatable && !last => backoff,
                Ok(answer) => {
                    return Err(KitError::Refused {
                        device: self.device.clone(),
                        what: format!("{method} {path}"),
                        status: answer.status,
                        answer: String::from_utf8_lossy(&answer.body).into_owned(),
                    });
                }
                Err(KitError::NoAnswer { .. }) if repeatable && !last => backoff,
                Err(error) => return Err(error),
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn parse(&self, method: &str, path: &str, answer: &Answer) -> Result<Value, KitError> {
        serde_json::from_slice(&answer.body).map_err(|_| KitError::BadAnswer {
            device: self.device.clone(),
            what: format!("{method} {path}"),
            answer: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }

    /// Gets JSON.
    pub async fn get(&self, path: &str) -> Result<Value, KitError> {
        self.json("GET", path, Value::Null).await
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value, KitError> {
        self.json("POST", path, body).await
    }

    /// Puts JSON.
    pub async fn put(&self, path: &str, body: Value) -> Result<Value, KitError> {
        self.json("PUT", path, body).await
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
