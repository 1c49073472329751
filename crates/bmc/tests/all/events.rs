//! Subscriptions to events at services shaped like those of several makers, by their public documentation: what each of them refuses, and
//! what it takes.

use std::time::Duration;

use bmc::{Access, BmcError, EventTarget, EventWay, Events, Redfish};
use futures::StreamExt;
use model::secret::Clear;
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

const SERVICE: &str = "/redfish/v1/EventService";
const LIST: &str = "/redfish/v1/EventService/Subscriptions";

fn target() -> EventTarget {
    EventTarget {
        destination: "https://192.0.2.1:8492/redfish-events/7/0123456789abcdef".into(),
        ours: "https://192.0.2.1:8492/redfish-events/7/".into(),
        context: "word".into(),
    }
}

fn driver(server: &MockServer) -> Redfish {
    crypto::install_provider();
    let access = Access {
        address: "bmc".into(),
        username: "root".into(),
        password: Clear("secret".into()),
        timeout: Duration::from_secs(5),
        tls_fingerprint: None,
    };
    Redfish::at(server.uri(), access).unwrap()
}

async fn get(server: &MockServer, at: &str, body: Value) {
    Mock::given(method("GET"))
        .and(path(at))
        .respond_with(ResponseTemplate::new(200).set_body_json(body))
        .mount(server)
        .await;
}

/// A service of that maker. What `takes` refuses is answered 400; the rest is made, as `made` answers.
async fn service(
    maker: &str,
    service: Value,
    takes: impl Fn(&Value) -> bool + Send + Sync + 'static,
    made: ResponseTemplate,
) -> MockServer {
    let server = MockServer::start().await;
    get(&server, "/redfish/v1/", json!({"Systems": {"@odata.id": "/redfish/v1/Systems"}})).await;
    get(&server, "/redfish/v1/Systems", json!({"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]})).await;
    get(&server, "/redfish/v1/Systems/1", json!({"@odata.id": "/redfish/v1/Systems/1", "Manufacturer": maker})).await;
    get(&server, SERVICE, service).await;
    Mock::given(method("POST"))
        .and(path(LIST))
        .respond_with(move |request: &Request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!((&body["Protocol"], &body["Context"]), (&json!("Redfish"), &json!("word")));
            if takes(&body) {
                return made.clone();
            }
            let message = json!({"MessageId": "Base.1.12.PropertyValueNotInList", "Message": "not like that"});
            ResponseTemplate::new(400).set_body_json(json!({"error": {"@Message.ExtendedInfo": [message]}}))
        })
        .mount(&server)
        .await;
    server
}

fn at(path: &str) -> ResponseTemplate {
    ResponseTemplate::new(201).insert_header("Location", path)
}

async fn posts(server: &MockServer) -> Vec<Value> {
    let all = server.received_requests().await.unwrap();
    let posts = all.iter().filter(|r| r.method.as_str() == "POST" && r.url.path() == LIST);
    posts.map(|r| serde_json::from_slice(&r.body).unwrap()).collect()
}

#[tokio::test]
async fn each_maker_is_asked_in_its_form() {
    let list = json!({"@odata.id": LIST});
    let empty = json!({"Members": []});
    // Dell: one kind by name; a whole URL as location.
    let offered = json!({"Subscriptions": list, "ServiceEnabled": true, "EventFormatTypes": ["Event", "MetricReport"]});
    let url = format!("https://bmc{LIST}/c1b2");
    let dell = service("Dell Inc.", offered, |b| b["EventTypes"] == json!(["Alert"]), at(&url)).await;
    get(&dell, LIST, empty.clone()).await;
    let way = driver(&dell).subscribe(&target()).await.unwrap();
    assert_eq!(way, EventWay::Push(format!("{LIST}/c1b2")));
    assert_eq!(posts(&dell).await.len(), 1, "at the first try");

    // HPE iLO 5: the older form, an answer with a message in an `error`.
    let kinds = ["StatusChange", "ResourceUpdated", "ResourceAdded", "ResourceRemoved", "Alert"];
    let offered = json!({"Subscriptions": list, "EventTypesForSubscription": kinds});
    let made = at(&format!("{LIST}/1/")).set_body_json(json!({"error": {"code": "iLO.0.10.ExtendedInfo",
        "@Message.ExtendedInfo": [{"MessageId": "Base.1.17.Created"}]}}));
    let old =
        |b: &Value| b["EventTypes"].as_array().is_some_and(|t| t.len() == 5) && b.get("EventFormatType").is_none();
    let hpe = service("HPE", offered, old, made).await;
    get(&hpe, LIST, empty.clone()).await;
    assert_eq!(driver(&hpe).subscribe(&target()).await.unwrap(), EventWay::Push(format!("{LIST}/1/")));
    assert_eq!(posts(&hpe).await.len(), 1);

    // NVIDIA (OpenBMC): the newer form, which knows no `SubscriptionType` in a request.
    let offered = json!({"Subscriptions": list, "EventFormatTypes": ["Event"], "RegistryPrefixes": ["ResourceEvent"]});
    let new = |b: &Value| b.get("EventTypes").is_none() && b.get("SubscriptionType").is_none();
    let nvidia = service("NVIDIA", offered, new, at(&format!("{LIST}/7"))).await;
    get(&nvidia, LIST, empty.clone()).await;
    assert_eq!(driver(&nvidia).subscribe(&target()).await.unwrap(), EventWay::Push(format!("{LIST}/7")));

    // Cisco: the service is off.
    let offered = json!({"Subscriptions": list, "ServiceEnabled": false, "EventTypesForSubscription": ["Alert"]});
    let cisco =
        service("Cisco Systems Inc", offered, |b| b["EventTypes"] == json!(["Alert"]), at(&format!("{LIST}/1"))).await;
    get(&cisco, LIST, empty).await;
    Mock::given(method("PATCH"))
        .and(path(SERVICE))
        .respond_with(ResponseTemplate::new(204))
        .expect(1)
        .mount(&cisco)
        .await;
    assert_eq!(driver(&cisco).subscribe(&target()).await.unwrap(), EventWay::Push(format!("{LIST}/1")));
}

#[tokio::test]
async fn a_subscription_that_is_there_is_kept_and_older_ones_go() {
    let offered = json!({"Subscriptions": {"@odata.id": LIST}});
    let server = service("Contoso", offered, |_| true, ResponseTemplate::new(201)).await;
    let one = |id: &str, destination: &str, context: &str| json!({"@odata.id": format!("{LIST}/{id}"), "Destination": destination, "Context": context, "Protocol": "Redfish"});
    let of = target();
    let members = [
        one("1", "https://elsewhere.example/events", "theirs"),
        one("2", &format!("{}an-older-word", of.ours), "word"),
        one("3", &of.destination, "word"),
        one("4", &of.destination, "word"),
    ];
    get(&server, LIST, json!({"Members": members})).await;
    get(&server, &format!("{LIST}/3"), members[2].clone()).await;
    Mock::given(method("DELETE")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let driver = driver(&server);
    assert_eq!(driver.subscribe(&of).await.unwrap(), EventWay::Push(format!("{LIST}/3")));
    assert!(driver.subscribed(&format!("{LIST}/3"), &of).await.unwrap());
    assert!(!driver.subscribed(&format!("{LIST}/9"), &of).await.unwrap(), "one that is not there");
    let deleted = || async {
        let all = server.received_requests().await.unwrap();
        let all = all.into_iter().filter(|r| r.method.as_str() == "DELETE" && r.url.path().starts_with(LIST));
        all.map(|r| r.url.path().rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((deleted().await, posts(&server).await.len()), (vec!["2".to_owned(), "4".to_owned()], 0));
    driver.unsubscribe(&of.ours).await.unwrap();
    assert_eq!(deleted().await[2..], ["2", "3", "4"], "all of ours, and nobody else's");
}

#[tokio::test]
async fn one_without_room_says_so_and_one_without_a_location_is_found() {
    let list = json!({"Subscriptions": {"@odata.id": LIST}});
    let full = service("Contoso", list.clone(), |_| false, ResponseTemplate::new(201)).await;
    get(&full, LIST, json!({"Members": []})).await;
    let error = driver(&full).subscribe(&target()).await.unwrap_err();
    assert!(matches!(&error, BmcError::Refused { reason, .. } if reason.contains("not like that")), "{error}");
    assert!(posts(&full).await.len() <= 5, "it is not asked for ever");

    let silent = service("Contoso", list, |_| true, ResponseTemplate::new(201)).await;
    let made = json!({"@odata.id": format!("{LIST}/12"), "Destination": target().destination});
    let before = ResponseTemplate::new(200).set_body_json(json!({"Members": []}));
    Mock::given(method("GET")).and(path(LIST)).respond_with(before).up_to_n_times(1).mount(&silent).await;
    get(&silent, LIST, json!({"Members": [made]})).await;
    assert_eq!(driver(&silent).subscribe(&target()).await.unwrap(), EventWay::Push(format!("{LIST}/12")));
}

#[tokio::test]
async fn one_that_sends_nothing_is_listened_to() {
    let offered = json!({"ServerSentEventUri": "/redfish/v1/EventService/SSE"});
    let server = service("Contoso", offered, |_| false, ResponseTemplate::new(201)).await;
    let text = ": begin\n\nid: 1\ndata: {\"Events\": [{\"Severity\": \"Critical\"}]}\n\ndata: {\"Events\": []}\n\n";
    let stream = ResponseTemplate::new(200).set_body_raw(text, "text/event-stream");
    Mock::given(method("GET")).and(path("/redfish/v1/EventService/SSE")).respond_with(stream).mount(&server).await;
    let driver = driver(&server);
    let EventWay::Stream(path) = driver.subscribe(&target()).await.unwrap() else { panic!("no stream") };
    let mut stream = driver.listen(&path).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap()["Events"][0]["Severity"], "Critical");
    assert_eq!(stream.next().await.unwrap().unwrap(), json!({"Events": []}));
    assert!(matches!(stream.next().await, Some(Err(BmcError::Unreachable { .. }))), "its end is told");
    assert!(stream.next().await.is_none());

    let none = service("Contoso", json!({}), |_| false, ResponseTemplate::new(201)).await;
    let error = driver_of(&none).subscribe(&target()).await.unwrap_err();
    assert!(matches!(error, BmcError::Unsupported { .. }), "{error}");
}

fn driver_of(server: &MockServer) -> Redfish {
    driver(server)
}
