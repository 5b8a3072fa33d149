//! Settings: which source wins, what is refused and in which words, and that what is written of
//! them is what is read.

use proptest::prelude::*;
use shm_transport::config::{Config, ConfigError, Full, KEYS, Loaded, Origin, Wait};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use std::time::Duration;

/// An environment of these variables.
fn variables<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
    |name| set.iter().find(|one| one.0 == name).map(|one| one.1.into())
}

fn environment(set: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::default().with_environment(variables(set))
}

#[track_caller]
fn says<T: std::fmt::Debug>(result: Result<T, ConfigError>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}

/// Nothing like the defaults, in any setting.
fn other() -> Config {
    Config {
        domain: "test".into(),
        directory: "/tmp/else".into(),
        nodes: 7,
        lane_bytes: 8192,
        max_message_bytes: 5000,
        full: Full::Drop,
        wait: Wait::Poll,
        heartbeat_ms: 20,
        silent_after_ms: 21,
        warm_up: true,
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = Config::default();
    let domain = config.to_domain().unwrap();
    assert_eq!((domain.name(), domain.directory().to_str()), ("default", Some("/dev/shm")));
    assert_eq!((config.nodes, config.lane_bytes, config.max_frame()), (256, 65536, 16384));
    assert_eq!(config.max_message_bytes, 16 * 1024 * 1024);
    assert_eq!(config.full, Full::Block(Duration::from_secs(1)));
    assert_eq!(config.wait, Wait::Adaptive);
    assert_eq!(config.heartbeat(), Duration::from_secs(1));
    assert_eq!(config.silent_after(), Duration::from_secs(5));
    assert!(!config.warm_up);
    config.check().unwrap();
    other().check().unwrap();
    let domain = other().to_domain().unwrap();
    assert_eq!((domain.name(), domain.directory().to_str()), ("test", Some("/tmp/else")));
}

#[test]
fn each_variable_sets_its_own_setting_and_no_other() {
    let (plain, other) = (Config::default(), other());
    let all: Vec<_> = KEYS.iter().map(|key| (key.variable, key.text(&other))).collect();
    let all: Vec<_> = all.iter().map(|(name, text)| (*name, text.as_str())).collect();
    assert_eq!(environment(&all).unwrap(), other);
    for (index, key) in KEYS.iter().enumerate() {
        assert_ne!(key.text(&plain), key.text(&other), "{}: the test shows nothing", key.name);
        let config = environment(&all[index..=index]).unwrap();
        for one in &KEYS {
            let expected = if one.name == key.name { &other } else { &plain };
            assert_eq!(one.text(&config), one.text(expected), "{} of {}", one.name, key.name);
        }
    }
    assert_eq!(environment(&[("SHM_NODE_COUNT", "3")]).unwrap(), plain, "nobody's variable");
}

#[test]
fn a_directory_need_not_be_utf8() {
    let path = OsString::from_vec(b"/tmp/\xff".to_vec());
    let variable = |name: &str| (name == "SHM_DIRECTORY").then(|| path.clone());
    let config = Config::default().with_environment(variable).unwrap();
    assert_eq!(config.directory, path);
    config.check().unwrap();
}

#[test]
fn a_variable_that_is_wrong_is_named_with_what_it_may_be() {
    let number = "(variable SHM_NODES): make it a number from 2 to 4096";
    for found in ["many", "", " 7", "+7", "-7", "7.0", "0x7", "1", "4097", "99999999999999999999"] {
        let error = environment(&[("SHM_NODES", found)]);
        says(error, &format!("nodes is {found:?} {number}"));
    }
    let rest = [
        ("SHM_DOMAIN", "", "domain"),
        ("SHM_DOMAIN", "a.b", "domain"),
        ("SHM_DIRECTORY", "", "directory"),
        ("SHM_DIRECTORY", "dev/shm", "directory"),
        ("SHM_LANE_BYTES", "65535", "lane_bytes"),
        ("SHM_LANE_BYTES", "2048", "lane_bytes"),
        ("SHM_LANE_BYTES", "2147483648", "lane_bytes"),
        ("SHM_MAX_MESSAGE_BYTES", "0", "max_message_bytes"),
        ("SHM_MAX_MESSAGE_BYTES", "1073741825", "max_message_bytes"),
        ("SHM_FULL", "wait", "full"),
        ("SHM_FULL", "block:", "full"),
        ("SHM_FULL", "block:-1", "full"),
        ("SHM_FULL", "block:1s", "full"),
        ("SHM_FULL", "Block", "full"),
        ("SHM_WAIT", "spin", "wait"),
        ("SHM_HEARTBEAT_MS", "0", "heartbeat_ms"),
        ("SHM_HEARTBEAT_MS", "2147483648", "heartbeat_ms"),
        ("SHM_SILENT_AFTER_MS", "0", "silent_after_ms"),
        ("SHM_SILENT_AFTER_MS", "2147483648", "silent_after_ms"),
        ("SHM_WARM_UP", "1", "warm_up"),
    ];
    for (variable, found, name) in rest {
        let key = KEYS.iter().find(|key| key.name == name).unwrap();
        let expected =
            format!("{name} is {found:?} (variable {variable}): make it {}", key.expected);
        says(environment(&[(variable, found)]), &expected);
    }
}

#[test]
fn bounds_themselves_are_allowed() {
    for (variable, texts) in [
        ("SHM_NODES", ["2", "4096"]),
        ("SHM_LANE_BYTES", ["4096", "1073741824"]),
        ("SHM_MAX_MESSAGE_BYTES", ["1", "1073741824"]),
        ("SHM_FULL", ["block:0", "block:18446744073709551615"]),
        ("SHM_HEARTBEAT_MS", ["1", "2147483647"]),
        ("SHM_SILENT_AFTER_MS", ["1", "2147483647"]),
    ] {
        let key = KEYS.iter().find(|key| key.variable == variable).unwrap();
        for text in texts {
            assert_eq!(key.text(&environment(&[(variable, text)]).unwrap()), text);
        }
    }
}

#[test]
fn a_variable_that_is_not_utf8_is_named() {
    for key in KEYS.iter().filter(|key| key.name != "directory") {
        let variable = |name: &str| (name == key.variable).then(|| OsString::from_vec(vec![0xff]));
        let error = Config::default().with_environment(variable).unwrap_err();
        assert!(matches!(error, ConfigError::NotUtf8 { .. }));
        let expected = format!(
            "{} is \"\\xFF\" (variable {}), which is not UTF-8: use letters and digits",
            key.name, key.variable
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn what_a_program_sets_wrong_is_found_by_check() {
    let set = |set: fn(&mut Config)| {
        let mut config = Config::default();
        set(&mut config);
        config.check()
    };
    says(
        set(|config| config.nodes = 5000),
        "nodes is \"5000\" (set by the program): make it a number from 2 to 4096",
    );
    says(
        set(|config| config.directory = "/dev/\0".into()),
        "directory is \"/dev/\\0\" (set by the program): make it an absolute path",
    );
    assert!(set(|config| config.directory = "shm".into()).is_err());
    assert!(set(|config| config.domain = "x".repeat(65)).is_err());
    assert!(set(|config| config.lane_bytes = 5000).is_err());
    assert!(set(|config| config.max_message_bytes = 0).is_err());
    assert!(set(|config| config.heartbeat_ms = 0).is_err());
    assert!(set(|config| config.silent_after_ms = u32::MAX).is_err());
}

#[test]
fn contradictions_name_both_and_where_they_come_from() {
    let check = |set: &[(&str, &str)]| Loaded::read_with(variables(set)).unwrap().check();
    says(
        check(&[("SHM_HEARTBEAT_MS", "5000")]),
        "silent_after_ms is \"5000\" (the default) and heartbeat_ms is \"5000\" (variable \
         SHM_HEARTBEAT_MS): make silent_after_ms larger, several heartbeats long",
    );
    check(&[("SHM_HEARTBEAT_MS", "4999")]).unwrap();
    says(
        check(&[("SHM_MAX_MESSAGE_BYTES", "16383")]),
        "max_message_bytes is \"16383\" (variable SHM_MAX_MESSAGE_BYTES) and lane_bytes is \
         \"65536\" (the default): a lane takes messages of a quarter of its bytes: make \
         max_message_bytes 16384 at least, or lane_bytes smaller",
    );
    check(&[("SHM_MAX_MESSAGE_BYTES", "16384")]).unwrap();
    let large = ("SHM_MAX_MESSAGE_BYTES", "1073741824");
    if Config::MAX_LANES_BYTES == 1 << 40 {
        let lane = ("SHM_LANE_BYTES", "1073741824");
        says(
            check(&[large, ("SHM_NODES", "1025"), lane]),
            "nodes is \"1025\" (variable SHM_NODES) and lane_bytes is \"1073741824\" (variable \
             SHM_LANE_BYTES): their product may be 1099511627776, for the lanes of all nodes need \
             address space: make one of them smaller",
        );
        check(&[large, ("SHM_NODES", "1024"), lane]).unwrap();
    }
}

#[test]
fn text_of_policies_is_what_it_says() {
    let ms = Duration::from_millis;
    for (text, full) in [
        ("error", Full::Error),
        ("drop", Full::Drop),
        ("block", Full::Block(ms(1000))),
        ("block:0", Full::Block(ms(0))),
        ("block:250", Full::Block(ms(250))),
    ] {
        assert_eq!((text.parse(), full.to_string().as_str()), (Ok(full), text));
    }
    assert_eq!("block:1000".parse(), Ok(Full::default()));
    assert_eq!(Full::Block(Duration::from_nanos(1)).to_string(), "block:1", "not 0");
    assert_eq!(Full::Block(Duration::MAX).to_string(), format!("block:{}", u64::MAX));
    for (text, wait) in [("adaptive", Wait::Adaptive), ("block", Wait::Block), ("poll", Wait::Poll)]
    {
        assert_eq!((text.parse(), wait.to_string().as_str()), (Ok(wait), text));
    }
    assert_eq!(
        "".parse::<Wait>().unwrap_err().to_string(),
        "found \"\": use \"adaptive\", \"block\" or \"poll\""
    );
    assert_eq!(
        "block:+5".parse::<Full>().unwrap_err().to_string(),
        "found \"block:+5\": use \"error\", \"drop\", \"block\" (one second), or \"block:\" and \
         milliseconds"
    );
}

/// The table between the marks in docs/configuration.md is the one that this crate means.
#[test]
fn the_documented_table_is_the_one_there_is() {
    let page = include_str!("../../docs/configuration.md");
    let plain = Config::default();
    let mut table = String::from(
        "| key | variable | unit | default | what it may be | what it is for |\n\
         |---|---|---|---|---|---|\n",
    );
    for key in &KEYS {
        let (name, default) = (key.name, key.text(&plain));
        table += &format!(
            "| `{name}` | `{}` | {} | `{default}` | {} | {} |\n",
            key.variable, key.unit, key.expected, key.about
        );
    }
    assert!(page.contains(&table), "put this into docs/configuration.md:\n{table}");
}

/// What [`Config::load`] is in a process with that environment: the test runs itself again.
#[test]
fn load_reads_the_real_environment() {
    const INSIDE: &str = "CONFIG_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        match Config::load() {
            Ok(config) => println!("found {config:?}"),
            Err(error) => println!("found {error}"),
        }
        return;
    }
    let found = |set: &[(&str, &str)]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "load_reads_the_real_environment", "--nocapture"])
            .env(INSIDE, "1");
        for key in &KEYS {
            command.env_remove(key.variable);
        }
        command.env_remove(Config::VARIABLE).envs(set.iter().copied());
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let line = output.lines().find_map(|line| line.split_once("found ")).expect(&output);
        line.1.to_owned()
    };
    assert_eq!(found(&[]), format!("{:?}", Config::default()));
    let nodes = found(&[("SHM_NODES", "9")]);
    assert_eq!(nodes, format!("{:?}", Config { nodes: 9, ..Config::default() }));
    assert!(found(&[("SHM_SILENT_AFTER_MS", "1")]).contains("larger"), "it checks");
    assert!(found(&[(Config::VARIABLE, "/nonexistent")]).contains("/nonexistent"));
}

#[test]
fn whose_a_setting_is_follows_the_last_change() {
    let mut loaded = Loaded::read_with(variables(&[("SHM_NODES", "256")])).unwrap();
    let nodes = KEYS.iter().find(|key| key.name == "nodes").unwrap();
    assert_eq!(loaded.origin(nodes), Origin::Variable("SHM_NODES"), "though as the default");
    loaded.config.nodes = 3;
    assert_eq!(loaded.origin(nodes), Origin::Program);
    assert_eq!(loaded.origin(&KEYS[0]), Origin::Default);
}

#[cfg(not(feature = "config-file"))]
#[test]
fn without_the_feature_a_file_is_an_error_that_says_so() {
    says(
        Loaded::read_with(variables(&[("SHM_CONFIG", "/etc/shm.toml")])),
        "this program reads no configuration files, and \"/etc/shm.toml\" is one (variable \
         SHM_CONFIG): build shm-transport with its feature config-file, or use variables",
    );
    assert!(matches!(Config::from_toml(""), Err(ConfigError::NoFiles { path: None, .. })));
}

#[cfg(feature = "config-file")]
mod file {
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A file of its own, which goes with it.
    struct Text(PathBuf);

    impl Text {
        fn new(content: impl AsRef<[u8]>) -> Self {
            static COUNTER: AtomicU32 = AtomicU32::new(0);
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("shm-config-{}-{count}.toml", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, content).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Text {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn program_over_environment_over_file_over_default() {
        let file = Text::new("nodes = 10\nheartbeat_ms = 10\nwarm_up = true\ndomain = 'filed'\n");
        let set = [("SHM_CONFIG", file.path()), ("SHM_NODES", "20"), ("SHM_HEARTBEAT_MS", "20")];
        let mut loaded = Loaded::read_with(variables(&set)).unwrap();
        loaded.config.nodes = 30;
        let expected = Config {
            nodes: 30,
            heartbeat_ms: 20,
            warm_up: true,
            domain: "filed".into(),
            ..Config::default()
        };
        assert_eq!(loaded.config, expected);
        loaded.check().unwrap();
        let line = |line| Origin::File { path: Some(file.0.clone()), line };
        for key in &KEYS {
            let expected = match key.name {
                "nodes" => Origin::Program,
                "heartbeat_ms" => Origin::Variable("SHM_HEARTBEAT_MS"),
                "warm_up" => line(3),
                "domain" => line(4),
                _ => Origin::Default,
            };
            assert_eq!(loaded.origin(key), expected, "{}", key.name);
        }
        assert_eq!(Config::from_file(&file.0).unwrap().heartbeat_ms, 10);
    }

    #[test]
    fn a_file_sets_all_settings() {
        assert_eq!(Config::from_toml("").unwrap(), Config::default());
        let text = "
            domain = 'test'
            directory = '/tmp/else'
            nodes = 7 # as many as there are dwarfs
            lane_bytes = 8_192
            max_message_bytes = 5000
            full = \"drop\"
            wait = \"poll\"
            heartbeat_ms = 20
            silent_after_ms = 21
            warm_up = true";
        assert_eq!(Config::from_toml(text).unwrap(), other());
    }

    #[test]
    fn the_documented_file_is_one() {
        let page = include_str!("../../docs/configuration.md");
        let text = page.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
        let config = Config::from_toml(text).unwrap();
        config.check().unwrap();
        assert_eq!(config.full, Full::Block(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line() {
        let all = "; docs/configuration.md has all keys";
        let names: Vec<_> = KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
        let unknown = format!("unknown field `nods`, expected one of {}", names.join(", "));
        for (line, expected) in [
            ("nods = 3", unknown.as_str()),
            ("[node]", "unknown field `node`"),
            ("nodes = 'three'", "invalid type: string \"three\", expected u32"),
            ("nodes = -3", "invalid value: integer `-3`, expected u32"),
            ("nodes = 3.0", "invalid type: floating point `3.0`, expected u32"),
            ("warm_up = 1", "invalid type: integer `1`, expected a boolean"),
            ("full = 250", "invalid type: integer `250`, expected a string"),
            ("full = 'wait'", "found \"wait\": use \"error\""),
            ("wait = 'spin'", "found \"spin\": use \"adaptive\""),
            ("domain = 'b'", "duplicate key"),
            ("nodes 3", "key with no value"),
            ("nodes = ", "string values must be quoted"),
        ] {
            let file = Text::new(format!("# the test's\ndomain = 'a'\n{line}\n"));
            let error = Config::from_file(&file.0).unwrap_err();
            assert!(matches!(error, ConfigError::Toml { .. }), "{line}: {error:?}");
            let error = error.to_string();
            let start = format!("line 3 of {:?} of the configuration: {expected}", file.0);
            assert!(error.starts_with(&start) && error.ends_with(all), "{line}: {error}");
        }
        let error = Config::from_toml("nodes = ''").unwrap_err().to_string();
        assert!(error.starts_with("line 1 of the configuration: "), "{error}");
    }

    #[test]
    fn a_value_out_of_bounds_in_a_file_is_told_with_its_line() {
        let file = Text::new("wait = 'poll'\n\nnodes = 1\n");
        let expected = "make it a number from 2 to 4096";
        says(
            Config::from_file(&file.0),
            &format!("nodes is \"1\" (line 3 of {:?}): {expected}", file.0),
        );
        says(Config::from_toml("nodes = 1"), &format!("nodes is \"1\" (line 1): {expected}"));
        // As it stands there though a variable would set it right: the file is wrong.
        assert!(
            Loaded::read_with(variables(&[("SHM_CONFIG", file.path()), ("SHM_NODES", "3")]))
                .is_err()
        );
    }

    #[test]
    fn files_may_contradict_what_others_set_right() {
        let file = Text::new("heartbeat_ms = 7000");
        let set = [("SHM_CONFIG", file.path())];
        let mut loaded = Loaded::read_with(variables(&set)).unwrap();
        says(
            loaded.check(),
            &format!(
                "silent_after_ms is \"5000\" (the default) and heartbeat_ms is \"7000\" (line 1 of \
                 {:?}): make silent_after_ms larger, several heartbeats long",
                file.0
            ),
        );
        loaded.config.silent_after_ms = 8000;
        loaded.check().unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let says = |path: &str, why: &str| {
            let error = Loaded::read_with(variables(&[("SHM_CONFIG", path)])).unwrap_err();
            assert!(matches!(error, ConfigError::Unreadable { .. }));
            let start =
                format!("the configuration file {path:?} (variable SHM_CONFIG) cannot be read: ");
            let error = error.to_string();
            assert!(error.starts_with(&start) && error.contains(why), "{error}");
            assert!(error.ends_with("; name one that can be, or none"), "{error}");
        };
        says("/nonexistent/shm.toml", "No such file");
        says("", "No such file");
        says("/", "Is a directory");
        says("/dev/zero", "more than 1048576 bytes");
        says(Text::new([b'#', 0xff]).path(), "UTF-8");
        let error = Config::from_file("/nonexistent").unwrap_err().to_string();
        assert!(error.contains("(set by the program)"), "{error}");
        let longest = format!("#{}", "x".repeat((1 << 20) - 1));
        assert_eq!(Config::from_file(&Text::new(longest).0).unwrap(), Config::default());
    }

    #[test]
    fn it_can_be_part_of_a_larger_configuration() {
        #[derive(serde::Deserialize)]
        struct Larger {
            shm: Config,
        }
        let larger: Larger = toml::from_str("[shm]\nnodes = 12").unwrap();
        assert_eq!(larger.shm, Config { nodes: 12, ..Config::default() });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn shown_as_toml_it_is_read_again(config in configs()) {
            let text = config.to_string();
            let loaded: Config = toml::from_str(&text).unwrap();
            prop_assert_eq!(&loaded, &config);
            // And by the crate's own reader, if it passes.
            match Config::from_toml(&text) {
                Ok(again) => prop_assert_eq!(again, config),
                Err(error) => {
                    prop_assert!(matches!(error, ConfigError::Value { .. }), "{}", error);
                    prop_assert!(config.check().is_err());
                }
            }
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC*|[a-z_]{0,9}=[\\[\\]{}'\"a-z0-9_. \n-]{0,60}") {
            let _ = Config::from_toml(&text);
        }
    }
}

fn fulls() -> impl Strategy<Value = Full> {
    prop_oneof![
        Just(Full::Error),
        Just(Full::Drop),
        any::<u64>().prop_map(|ms| Full::Block(Duration::from_millis(ms))),
        (0..2000u64).prop_map(|ms| Full::Block(Duration::from_millis(ms))),
    ]
}

fn waits() -> impl Strategy<Value = Wait> {
    prop_oneof![Just(Wait::Adaptive), Just(Wait::Block), Just(Wait::Poll)]
}

/// A number in bounds, mostly.
fn number(bounds: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = u32> {
    prop_oneof![9 => bounds, 1 => any::<u32>()]
}

/// Settings that are possible, mostly, as far as each goes by itself.
fn configs() -> impl Strategy<Value = Config> {
    let names = (
        prop_oneof![9 => "[^/.\0]{1,16}", 1 => any::<String>()],
        prop_oneof![9 => "/[^\0]*", 1 => any::<String>()],
    );
    let numbers = (
        number(2..=4096),
        prop_oneof![9 => (12..=30u32).prop_map(|bits| 1u32 << bits), 1 => any::<u32>()],
        prop_oneof![9 => 1..=1u64 << 30, 1 => 0..=i64::MAX as u64],
        number(1..=u32::MAX >> 1),
        number(1..=u32::MAX >> 1),
    );
    (names, numbers, fulls(), waits(), any::<bool>()).prop_map(
        |((domain, directory), numbers, full, wait, warm_up)| Config {
            domain,
            directory: directory.into(),
            nodes: numbers.0,
            lane_bytes: numbers.1,
            max_message_bytes: numbers.2,
            full,
            wait,
            heartbeat_ms: numbers.3,
            silent_after_ms: numbers.4,
            warm_up,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_of_a_policy_is_parsed_to_the_same(full in fulls(), wait in waits()) {
        prop_assert_eq!(full.to_string().parse(), Ok(full));
        prop_assert_eq!(wait.to_string().parse(), Ok(wait));
    }

    #[test]
    fn what_variables_would_say_of_settings_sets_them(config in configs()) {
        let variable = |name: &str| {
            Some(KEYS.iter().find(|key| key.variable == name)?.text(&config).into())
        };
        match Config::default().with_environment(variable) {
            Ok(found) => prop_assert_eq!(found, config),
            Err(error) => {
                prop_assert!(matches!(error, ConfigError::Value { .. }), "{}", error);
                prop_assert!(config.check().is_err());
            }
        }
    }

    #[test]
    fn no_variable_is_too_odd(bytes in any::<Vec<u8>>(), index in 0..KEYS.len()) {
        let found = OsString::from_vec(bytes);
        let variable = |name: &str| (name == KEYS[index].variable).then(|| found.clone());
        let _ = Config::default().with_environment(variable);
    }
}
