//! The door: accepts connections, lets each request meet its faults, and answers it or not.
//!
//! A lost answer must look like one, so this serves connections itself instead of through
//! `axum::serve`, which always answers: a service error closes the connection without a byte.

use std::{net::TcpListener, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{
        Request, Response, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::IntoResponse,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinSet};
use tower::ServiceExt;

use super::{
    answer::access_token,
    controls::{Controls, Effect, Fault, RequestRecord, Tamper, TamperBytes},
    error::Refusal,
};

/// The client gets no answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer is dropped on purpose")]
struct Dropped;

pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    controls: Controls,
    stopped: oneshot::Receiver<()>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let (router, controls) = (router.clone(), controls.clone());
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let (router, controls) = (router.clone(), controls.clone());
                    async move { answer(request, router, controls).await }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stopped => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    router: Router,
    controls: Controls,
) -> Result<Response<Body>, Dropped> {
    let sender = access_token(request.headers()).and_then(|token| controls.sender_of(token));
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let length = header(CONTENT_LENGTH);
    let mut record = RequestRecord {
        user_id: sender.as_ref().map(|(user_id, _)| user_id.clone()),
        device_id: sender.as_ref().map(|(_, device_id)| device_id.clone()),
        method: request.method().to_string(),
        path: path.clone(),
        content_type: header(CONTENT_TYPE).map(str::to_owned),
        request_bytes: length.and_then(|length| length.parse().ok()).unwrap_or(0),
        status: None,
    };
    let faults = controls.faults_for(&path, sender.as_ref());
    let executed = execute(request, router, &controls, &faults, &record).await;
    record.status = executed.as_ref().ok().map(|response| response.status().as_u16());
    controls.record(record);
    executed
}

async fn execute(
    request: Request<Incoming>,
    router: Router,
    controls: &Controls,
    faults: &[Fault],
    record: &RequestRecord,
) -> Result<Response<Body>, Dropped> {
    let mut drop_answer = false;
    let mut tampers: Vec<&Tamper> = Vec::new();
    let mut byte_tampers: Vec<&TamperBytes> = Vec::new();
    for fault in faults {
        match fault.effect() {
            Effect::Delay(delay) => tokio::time::sleep(*delay).await,
            Effect::DropRequest => return Err(Dropped),
            Effect::DropAnswer => drop_answer = true,
            Effect::Fail(status) => return Ok(failure(*status)),
            Effect::Hold(notify) => loop {
                // Registered before the check, so that a stop in between is not missed.
                let released = notify.notified();
                if fault.is_stopped() {
                    break;
                }
                released.await;
            },
            Effect::Tamper(change) => tampers.push(change.as_ref()),
            Effect::TamperBytes(change) => byte_tampers.push(change.as_ref()),
        }
    }
    if let Some(user_id) = &record.user_id
        && let Some(early) = controls.limited(&record.path, user_id)
    {
        return Ok(Refusal::limit_exceeded(millis(early)).into_response());
    }
    let response = match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if drop_answer {
        return Err(Dropped);
    }
    let response = tamper(response, &tampers).await?;
    tamper_bytes(response, &byte_tampers).await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// An answer as a broken server or a proxy in front of it gives.
fn failure(status: u16) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match status {
        StatusCode::TOO_MANY_REQUESTS => Refusal::limit_exceeded(50).into_response(),
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            (status, "<html><body>the proxy cannot reach the server</body></html>").into_response()
        }
        StatusCode::NOT_FOUND => Refusal::not_found("refused on purpose").into_response(),
        StatusCode::FORBIDDEN => Refusal::forbidden("refused on purpose").into_response(),
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large("refused on purpose").into_response(),
        StatusCode::UNAUTHORIZED => Refusal::unknown_token().into_response(),
        other => Refusal::new(other, "M_UNKNOWN", "failed on purpose").into_response(),
    }
}

async fn tamper(response: Response<Body>, tampers: &[&Tamper]) -> Result<Response<Body>, Dropped> {
    if tampers.is_empty() || !response.status().is_success() {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.map_err(|_| Dropped)?;
    let Ok(mut json) = serde_json::from_slice::<Value>(&bytes) else {
        return Ok(Response::from_parts(parts, Body::from(bytes)));
    };
    tampers.iter().for_each(|change| change(&mut json));
    parts.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(json.to_string())))
}

async fn tamper_bytes(
    response: Response<Body>,
    tampers: &[&TamperBytes],
) -> Result<Response<Body>, Dropped> {
    if tampers.is_empty() || !response.status().is_success() {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let mut bytes = to_bytes(body, usize::MAX).await.map_err(|_| Dropped)?.to_vec();
    tampers.iter().for_each(|change| change(&mut bytes));
    parts.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(bytes)))
}
