//! Consoles: who gets a ticket, what it is good for, how long it grants what it grants. The site is one that sends back what it hears.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::console::{Pipe, Sites};
use futures::{SinkExt, StreamExt};
use model::{
    Id,
    console::{Control, Frame, OpenConsole},
};
use sea_orm::{ActiveValue::Set, EntityTrait, QueryOrder};
use serde_json::{Value, json};
use store::{Database, entity};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::hardware_rig::{self, Rig};

#[derive(Default)]
struct Echo {
    away: AtomicBool,
    wanted: Mutex<Vec<OpenConsole>>,
    refuses: Mutex<Option<String>>,
}

impl Sites for Echo {
    fn is_connected(&self, _: Id) -> bool {
        !self.away.load(Ordering::SeqCst)
    }

    fn open<'a>(
        &'a self,
        _: Id,
        wanted: &'a OpenConsole,
    ) -> Pin<Box<dyn Future<Output = Result<Pipe, String>> + Send + 'a>> {
        Box::pin(async move {
            self.wanted.lock().unwrap().push(wanted.clone());
            let (out, mut from_viewer) = tokio::sync::mpsc::channel(8);
            let (to_viewer, incoming) = tokio::sync::mpsc::channel(8);
            let refused = self.refuses.lock().unwrap().clone();
            tokio::spawn(async move {
                let first = match refused {
                    Some(why) => Frame::End(why),
                    None => Frame::Control(Control::Ready { via: "test".into(), breaks: true, viewers: 1 }),
                };
                let _ = to_viewer.send(first).await;
                while let Some(frame) = from_viewer.recv().await {
                    if to_viewer.send(frame).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Pipe { out, incoming })
        })
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn connect(address: std::net::SocketAddr, path: &str, protocols: &str) -> Result<Socket, u16> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if !protocols.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    }
    let tcp = TcpStream::connect(address).await.unwrap();
    match tokio_tungstenite::client_async(request, tcp).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(e) => panic!("{e}"),
    }
}

async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(Duration::from_secs(30), socket.next()).await.expect("something comes");
    message.expect("it is open").unwrap()
}

async fn said(socket: &mut Socket) -> Value {
    match next(socket).await {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Of a serial console that ends: why.
async fn reason(socket: &mut Socket) -> String {
    loop {
        if let Message::Text(text) = next(socket).await {
            let said: Value = serde_json::from_str(&text).unwrap();
            if said["type"] == "end" {
                return said["reason"].as_str().unwrap().to_owned();
            }
        }
    }
}

struct Desk {
    rig: Rig,
    echo: Arc<Echo>,
    address: std::net::SocketAddr,
    server: i64,
}

async fn desk(db: Database) -> Desk {
    let rig = hardware_rig::rig(db).await;
    let server = rig.register("10.0.0.7").await;
    let server = server["serverId"].as_i64().or_else(|| server["id"].as_i64()).unwrap_or(1);
    let echo = Arc::new(Echo::default());
    rig.app.consoles().connect(echo.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = rig.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Desk { rig, echo, address, server }
}

impl Desk {
    fn path(&self) -> String {
        format!("/servers/{}/console", self.server)
    }

    async fn ticket(&self, body: Value) -> (String, String) {
        let made = self.rig.ok(201, "POST", &self.path(), body).await;
        let protocols = format!("{}, ticket.{}", made["protocol"].as_str().unwrap(), made["ticket"].as_str().unwrap());
        (made["path"].as_str().unwrap().to_owned(), protocols)
    }

    async fn open(&self, body: Value) -> Socket {
        let (path, protocols) = self.ticket(body).await;
        let mut socket = connect(self.address, &path, &protocols).await.unwrap();
        assert_eq!(said(&mut socket).await["type"], "ready");
        socket
    }

    async fn events(&self) -> Vec<entity::event::Model> {
        entity::event::Entity::find().order_by_asc(entity::event::Column::Id).all(&self.rig.db.read).await.unwrap()
    }
}

async fn a_ticket_is_good_once_and_what_is_typed_arrives(db: Database) {
    let desk = desk(db).await;
    assert_eq!(connect(desk.address, "/api/v2/servers/1/console", "").await.map(|_| ()), Err(401));
    let (path, protocols) = desk.ticket(json!({})).await;
    assert_eq!(connect(desk.address, "/api/v2/servers/999/console", &protocols).await.map(|_| ()), Err(401));
    let (path2, protocols2) = desk.ticket(json!({})).await;
    assert_eq!(path, path2);
    let mut socket = connect(desk.address, &path, &protocols2).await.unwrap();
    let ready = said(&mut socket).await;
    assert_eq!((&ready["via"], &ready["viewers"], &ready["readOnly"]), (&json!("test"), &json!(1), &json!(false)));
    for used in [&protocols, &protocols2] {
        assert_eq!(connect(desk.address, &path, used).await.map(|_| ()), Err(401), "used up");
    }
    socket.send(Message::Binary(b"secret words\r".to_vec().into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Binary(b"secret words\r".to_vec().into()));
    socket.send(Message::Text(r#"{"type":"break"}"#.into())).await.unwrap();
    assert_eq!(said(&mut socket).await["type"], "break");

    let list = desk.rig.get(&format!("/servers/{}/consoles", desk.server)).await;
    assert_eq!(list["sessions"][0]["userEmail"], "admin@example.com");
    let info = desk.rig.get(&format!("/servers/{}/remote-console-info", desk.server)).await;
    assert_eq!(info["active_connections"], 1);
    socket.close(None).await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !desk.events().await.iter().any(|e| e.kind == "server.console_closed") {
        assert!(tokio::time::Instant::now() < end, "it is on record");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let events = desk.events().await;
    let closed = events.iter().find(|e| e.kind == "server.console_closed").unwrap();
    assert_eq!((&closed.context["bytesTyped"], &closed.context["bytesShown"]), (&json!(13), &json!(13)));
    assert!(events.iter().any(|e| e.kind == "server.console_opened" && e.severity == "security"));
    assert!(!events.iter().any(|e| format!("{e:?}").contains("secret words")), "never what was typed");
    while desk.rig.get(&format!("/servers/{}/consoles", desk.server)).await["sessions"] != json!([]) {
        assert!(tokio::time::Instant::now() < end, "it is gone from the list");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn who_may_not_is_told_why(db: Database) {
    let desk = desk(db).await;
    let (rig, path) = (&desk.rig, desk.path());
    rig.no(404, "POST", "/servers/999/console", json!({}), "there is no server").await;
    rig.no(404, "POST", "/server-instances/999/console", json!({}), "there is no server instance").await;
    rig.no(400, "POST", &path, json!({"kind": "telnet"}), "").await;
    assert_eq!(rig.send("", "POST", &path, None, Some(json!({}))).await.status, 401);
    rig.no(426, "GET", &path, Value::Null, "WebSocket").await;
    rig.no(404, "DELETE", &format!("/servers/{}/consoles/9", desk.server), Value::Null, "no open console").await;

    rig.server(desk.server, |row| {
        row.inventory = Set(json!({"memory_mib": 0, "processors": [], "disks": [], "nics": [], "gpus": [], "consoles": {"serial": "SSH"}}));
        row.vendor = Set(Some("HPE".into()));
    })
    .await;
    rig.no(409, "POST", &path, json!({"kind": "screen"}), "HTML5 console").await;
    let info = rig.get(&format!("/servers/{}/vnc-info", desk.server)).await;
    assert_eq!(info["enable"], "Disabled");
    desk.echo.away.store(true, Ordering::SeqCst);
    rig.no(409, "POST", &path, json!({}), "not connected").await;
    desk.echo.away.store(false, Ordering::SeqCst);
    rig.server(desk.server, |row| row.bmc_username = Set(None)).await;
    rig.no(409, "POST", &path, json!({}), "login of the BMC").await;
    rig.server(desk.server, |row| row.bmc_username = Set(Some("root".into()))).await;

    // What the site says is passed on.
    *desk.echo.refuses.lock().unwrap() = Some("somebody else has it; take it over".into());
    let (to, protocols) = desk.ticket(json!({"takeOver": true, "readOnly": true})).await;
    let mut socket = connect(desk.address, &to, &protocols).await.unwrap();
    assert_eq!(reason(&mut socket).await, "somebody else has it; take it over");
    let wanted = desk.echo.wanted.lock().unwrap().last().cloned().unwrap();
    assert!(wanted.take_over && wanted.read_only);
    *desk.echo.refuses.lock().unwrap() = None;

    // One who only looks types nothing.
    let mut socket = desk.open(json!({"readOnly": true})).await;
    socket.send(Message::Binary(b"rm -rf /\r".to_vec().into())).await.unwrap();
    socket.send(Message::Text(r#"{"type":"break"}"#.into())).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(500), socket.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    drop(socket);

    // One user has eight.
    let mut held = 0;
    while rig.call("POST", &path, json!({})).await.status == 201 {
        held += 1;
        assert!(held <= api::console::PER_USER, "there is a bound");
    }
    rig.no(409, "POST", &path, json!({}), "all that one user may have").await;
}

async fn a_console_ends_with_the_right_to_it(db: Database) {
    let desk = desk(db).await;
    let mut socket = desk.open(json!({})).await;
    let list = desk.rig.get(&format!("/servers/{}/consoles", desk.server)).await;
    let id = list["sessions"][0]["id"].as_i64().unwrap();
    desk.rig.ok(204, "DELETE", &format!("/servers/{}/consoles/{id}", desk.server), Value::Null).await;
    assert!(reason(&mut socket).await.contains("administrator"));

    // The server is not this platform's any more.
    let mut socket = desk.open(json!({})).await;
    desk.rig.server(desk.server, |row| row.administration_state = Set("unmanaged".into())).await;
    desk.rig.app.wrote();
    let why = reason(&mut socket).await;
    assert!(why.contains("outside of this platform"), "{why}");
    desk.rig.server(desk.server, |row| row.administration_state = Set("managed".into())).await;

    // Who signs out looks no more.
    let mut socket = desk.open(json!({})).await;
    let (path, protocols) = desk.ticket(json!({})).await;
    let out = desk.rig.call("POST", "/logout", json!({})).await;
    assert!(out.status.is_success(), "{}", out.status);
    let why = reason(&mut socket).await;
    assert!(why.contains("not signed in any more"), "{why}");
    assert_eq!(connect(desk.address, &path, &protocols).await.map(|_| ()), Err(403), "nor by a ticket of before");
}

#[tokio::test]
async fn tickets() {
    crate::testing::both(a_ticket_is_good_once_and_what_is_typed_arrives).await;
}

#[tokio::test]
async fn refusals() {
    crate::testing::both(who_may_not_is_told_why).await;
}

#[tokio::test]
async fn revocation() {
    crate::testing::both(a_console_ends_with_the_right_to_it).await;
}
