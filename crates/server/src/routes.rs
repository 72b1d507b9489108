//! Routes, and what every request passes before one of them answers it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{get, post};
use mtplx_engine::RequestError;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use crate::answer::{Answer, Parts};
use crate::app::{App, now};
use crate::dialect::{AnswerContext, Chat, Completions, Dialect, ErrorStyle, Messages, Ollama, Responses};
use crate::host::{Model, Status};
use crate::ids;
use crate::log::{Answered, LogEvent};
use crate::metrics;
use crate::openapi;
use crate::page;
use crate::prepare::{self, Prepared, failure, prepare};
use crate::status;
use crate::wire::internal::{Failure, FailureKind, Prompt};
use crate::wire::models::{self, ModelCard};
use crate::wire::ollama::{Tag, tags, version};
use crate::wire::{errors, messages};

/// A request's id and arrival, which its answer carries on.
#[derive(Clone)]
struct Ticket {
    id: String,
    arrived: Instant,
    method: Method,
    path: String,
}

/// Marks an answer that gets no line of the log from here: it writes its own once it is over, or has none.
#[derive(Clone)]
struct LogsItself;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let guard = app.options.guard.clone();
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| guard.allows_origin(origin)))
        .allow_methods(AllowMethods::list([Method::GET, Method::POST]))
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(Duration::from_secs(600));
    Router::new()
        .route(Chat::ROUTE, post(generate::<Chat>))
        .route(Completions::ROUTE, post(generate::<Completions>))
        .route(Responses::ROUTE, post(generate::<Responses>))
        .route(Messages::ROUTE, post(generate::<Messages>))
        .route(Ollama::ROUTE, post(generate::<Ollama>))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(one_model))
        .route("/api/tags", get(ollama_tags))
        .route("/api/version", get(ollama_version))
        .route("/health", get(health))
        .route("/status", get(status_page))
        .route("/metrics", get(metrics_page))
        .route("/openapi.json", get(openapi_document))
        .route("/", get(page_file))
        .route("/page/{*file}", get(page_file))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            let failure = Failure::new(FailureKind::Internal, "the work on this request failed unexpectedly");
            refusal(&failure, ErrorStyle::OpenAi, &ids::random("req_"))
        }))
        .layer(from_fn_with_state(Arc::clone(&app), guarded))
        // Outermost, so that a page of this machine can read refusals as well.
        .layer(cors)
        .with_state(app)
}

/// Checks a request, answers it, and logs it.
async fn guarded(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let ticket = Ticket { id: ids::random("req_"), arrived: Instant::now(), method, path };
    let style = ErrorStyle::of_path(&ticket.path);
    let mut response = match app.options.guard.check(&ticket.method, request.uri(), request.headers()) {
        Ok(()) => {
            request.extensions_mut().insert(ticket.clone());
            next.run(request).await
        }
        Err(failure) => refusal(&failure, style, &ticket.id),
    };
    for (name, value) in errors::request_headers(&ticket.id) {
        insert(response.headers_mut(), name, &value);
    }
    if response.extensions().get::<LogsItself>().is_none() {
        app.answered(ticket.record(response.status().as_u16()));
    }
    response
}

impl Ticket {
    fn record(&self, status: u16) -> Answered {
        Answered {
            id: self.id.clone(),
            method: self.method.to_string(),
            path: self.path.clone(),
            status,
            total: self.arrived.elapsed(),
            ..Answered::default()
        }
    }
}

/// Answers a request that generates.
async fn generate<D: Dialect>(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let (ticket, style) = (ticket(&request), ErrorStyle::of_path(D::ROUTE));
    match begin::<D>(&app, request, &ticket).await {
        Ok(response) => response,
        Err(failure) => refusal(&failure, style, &ticket.id),
    }
}

async fn begin<D: Dialect>(app: &Arc<App>, request: Request, ticket: &Ticket) -> Result<Response<Body>, Failure> {
    let body = read(app, request).await?;
    let takes_claude = ErrorStyle::of_path(D::ROUTE) == ErrorStyle::Anthropic;
    // Large bodies take their time: templates, tokenizers and parsers run where they stop nobody.
    let parsed = blocking(move || D::parse(&body)).await?;
    let model_name = app.served(D::request(&parsed).model.as_deref(), takes_claude)?;
    let model = app.model().await?;
    let lease = app.host.lease().await?;
    let this = Arc::clone(app);
    let (parsed, prepared) = blocking(move || {
        let prepared = prepare(D::request(&parsed), &model, &this.options.defaults)?;
        Ok((parsed, prepared))
    })
    .await?;
    let Prepared { requests, prompt_tokens, warning } = prepared;
    let asked = D::request(&parsed);
    let mut waiting: VecDeque<_> = requests.into();
    let first = waiting.pop_front().ok_or_else(|| Failure::invalid("prompt", "prompt: empty; send at least one"))?;
    announce(app, &ticket.id, prompt_tokens, warning);
    let stream = lease.submit(first.clone()).map_err(|error| refused(app, &error))?;
    let context = AnswerContext { request_id: &ticket.id, created: now(), model: &model_name, prompt_tokens };
    let answer = Answer::new(Parts {
        app: Arc::clone(app),
        writer: D::writer(&parsed, &context),
        lease,
        waiting,
        first: (stream, first),
        shows_tokens: asked.options.logprobs.is_some() || asked.options.mtp.origins,
        record: ticket.record(StatusCode::OK.as_u16()),
        arrived: ticket.arrived,
    });
    let mut response = if asked.stream {
        answer.into_stream(D::STREAM)
    } else {
        match answer.into_whole(D::fold()).await {
            Ok(response) => response,
            Err(failure) => refusal(&failure, ErrorStyle::of_path(D::ROUTE), &ticket.id),
        }
    };
    // Known before the first token, unlike the usage.
    insert(response.headers_mut(), "x-mtplx-prompt-tokens", &prompt_tokens.to_string());
    if let Some(warning) = warning {
        insert(response.headers_mut(), "x-mtplx-warning", warning);
    }
    response.extensions_mut().insert(LogsItself);
    Ok(response)
}

/// Logs a remark, and a prompt that takes its time.
fn announce(app: &App, id: &str, tokens: u64, warning: Option<&'static str>) {
    if let Some(text) = warning {
        app.log(&LogEvent::Warning { id: id.to_owned(), text });
    }
    if let Some(rate) = app.prefill_rate.tokens_per_second() {
        app.announce(id, tokens, tokens, rate);
    }
}

/// The refusal of the engine.
fn refused(app: &App, error: &RequestError) -> Failure {
    let retry_after = matches!(error, RequestError::Busy { .. }).then(|| app.retry_after());
    if matches!(error, RequestError::Ended) {
        app.host.note_dead();
    }
    Failure { retry_after, ..failure(error) }
}

/// The body of a request, within its bounds.
async fn read(app: &App, request: Request) -> Result<axum::body::Bytes, Failure> {
    let most = app.options.max_body;
    let too_large = || {
        Failure::new(
            FailureKind::TooLarge,
            format!("the body has more than {most} bytes; the server's setting max-body allows more"),
        )
    };
    let stated = request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|stated| stated > most as u64) {
        return Err(too_large());
    }
    match timeout(app.options.body_time, to_bytes(request.into_body(), most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_large(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Failure::new(FailureKind::Invalid, "the body was cut off; send it again")),
        Err(_) => Err(Failure::new(FailureKind::Timeout, "the body did not come in time; send it again")),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Runs work that takes its time beside the tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let unexpected = |_| Failure::new(FailureKind::Internal, "the work on this request failed unexpectedly");
    tokio::task::spawn_blocking(work).await.map_err(unexpected)?
}

async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let ticket = ticket(&request);
    let counted = async {
        let body = read(&app, request).await?;
        let parsed = blocking(move || messages::parse_count(&body)).await?;
        app.served(parsed.request.model.as_deref(), true)?;
        let model = app.model().await?;
        let tokens = blocking(move || match &parsed.request.prompt {
            Prompt::Conversation(conversation) => prepare::count(conversation, &model),
            Prompt::Raw(_) => Ok(0),
        })
        .await?;
        Ok(messages::count_response(tokens))
    };
    match counted.await {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(failure) => refusal(&failure, ErrorStyle::Anthropic, &ticket.id),
    }
}

/// The model under each of its names.
fn cards(app: &App, model: &Model) -> Vec<ModelCard> {
    let names = std::iter::once(&app.options.name).chain(&app.options.aliases);
    names
        .map(|name| ModelCard {
            id: name.clone(),
            created: app.started,
            context: model.info.model.context as u64,
            owned_by: "mtplx".to_owned(),
            display_name: name.clone(),
        })
        .collect()
}

async fn list_models(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let ticket = ticket(&request);
    match app.model().await {
        Ok(model) => json_response(StatusCode::OK, &models::list(&cards(&app, &model))),
        Err(failure) => refusal(&failure, ErrorStyle::OpenAi, &ticket.id),
    }
}

async fn one_model(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let ticket = ticket(&request);
    let id = request.uri().path().trim_start_matches("/v1/models/");
    let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
    let found = async {
        let model = app.model().await?;
        let name = app.served(Some(&id), true)?;
        let mut card = cards(&app, &model).swap_remove(0);
        card.id = name;
        Ok::<_, Failure>(models::model(&card))
    };
    match found.await {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(failure) => refusal(&failure, ErrorStyle::OpenAi, &ticket.id),
    }
}

async fn ollama_tags(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let ticket = ticket(&request);
    match app.model().await {
        Ok(model) => {
            let list: Vec<Tag> = std::iter::once(&app.options.name)
                .chain(&app.options.aliases)
                .map(|name| model.tag(name, app.started))
                .collect();
            json_response(StatusCode::OK, &tags(&list))
        }
        Err(failure) => refusal(&failure, ErrorStyle::Ollama, &ticket.id),
    }
}

async fn ollama_version(State(app): State<Arc<App>>) -> Response<Body> {
    json_response(StatusCode::OK, &version(app.options.version))
}

async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    let state = app.host.status();
    let code = match state {
        Status::Ok | Status::Idle => StatusCode::OK,
        Status::Loading | Status::Dead => StatusCode::SERVICE_UNAVAILABLE,
    };
    let (running, queued) = app.host.requests();
    let word = status::word(state);
    json_response(code, &json!({"status": word, "model": app.options.name, "running": running, "queued": queued}))
}

async fn status_page(State(app): State<Arc<App>>) -> Response<Body> {
    json_response(StatusCode::OK, &status::status(&app))
}

async fn page_file(request: Request) -> Response<Body> {
    let found = page::answer(request.uri().path(), request.headers());
    let Some(mut response) = found else { return no_route(request).await };
    // Two dozen files for one look at the page would bury the lines of answers.
    response.extensions_mut().insert(LogsItself);
    response
}

async fn metrics_page(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let (running, queued) = app.host.requests();
    match app.metrics.page(running, queued, &status::memory(&app)) {
        Ok(page) => {
            let mut response = Response::new(Body::from(page));
            insert(response.headers_mut(), "content-type", metrics::CONTENT_TYPE);
            response
        }
        Err(error) => {
            let failure = Failure::new(FailureKind::Internal, error.to_string());
            refusal(&failure, ErrorStyle::OpenAi, &ticket(&request).id)
        }
    }
}

async fn openapi_document(State(app): State<Arc<App>>) -> Response<Body> {
    json_response(StatusCode::OK, &openapi::document(app.options.version))
}

async fn no_route(request: Request) -> Response<Body> {
    let ticket = ticket(&request);
    let style = ErrorStyle::of_path(&ticket.path);
    let advice = match style {
        ErrorStyle::Ollama => {
            "of Ollama's routes this server has /api/chat, /api/tags and /api/version; the others are under /v1"
        }
        _ => "/openapi.json lists the routes",
    };
    let message = format!("{} {}: no such route; {advice}", ticket.method, ticket.path);
    refusal(&Failure::new(FailureKind::NotFound, message), style, &ticket.id)
}

async fn no_method(request: Request) -> Response<Body> {
    let ticket = ticket(&request);
    let message = format!("{} {}: not a method of this route; /openapi.json lists them", ticket.method, ticket.path);
    refusal(&Failure::new(FailureKind::Method, message), ErrorStyle::of_path(&ticket.path), &ticket.id)
}

fn ticket(request: &Request) -> Ticket {
    request.extensions().get::<Ticket>().cloned().unwrap_or_else(|| Ticket {
        id: ids::random("req_"),
        arrived: Instant::now(),
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
    })
}

/// An error as an answer.
fn refusal(failure: &Failure, style: ErrorStyle, request_id: &str) -> Response<Body> {
    let code = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(code, &style.body(failure, request_id));
    for (name, value) in failure.headers(request_id) {
        insert(response.headers_mut(), name, &value);
    }
    response
}

fn json_response(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = code;
    insert(response.headers_mut(), "content-type", "application/json");
    response
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
