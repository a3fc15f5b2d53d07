use super::*;
use proptest::prelude::*;

/// Command lines and what they are called, whatever the process calls itself.
fn check(table: &[(&str, &str)]) {
    for (cmdline, expected) in table {
        assert_eq!(of("", None, Some(cmdline)).name, *expected, "{cmdline:?}");
    }
}

#[test]
fn name_by_comm_exe_and_command_line_is_the_most_specific() {
    for (comm, exe, cmdline, expected) in [
        ("kworker/0:1", None, None, "kworker/0:1"),
        ("curl", Some("/usr/bin/curl"), None, "curl"),
        ("curl", None, Some(""), "curl"),
        ("curl", None, Some("   "), "curl"),
        ("", None, None, ""),
        ("curl", Some("/usr/bin/curl"), Some("/usr/bin/curl -s http://a/"), "curl"),
        ("exe", Some("/usr/bin/dockerd"), Some("/proc/self/exe init"), "dockerd"),
        ("exe", Some("/opt/agent (deleted)"), Some("/proc/self/exe"), "agent"),
        ("exe", None, Some("/proc/self/exe init"), "exe"),
        ("exe", Some(" (deleted)"), Some("/proc/self/exe init"), "exe"),
        ("odd", Some("/usr/bin/odd"), Some(" --flag"), "odd"),
        ("odd", None, Some(" --flag"), "odd"),
        ("python3", Some("/usr/bin/python3.11"), Some("/srv/venv/bin/python3 client.py"), "client.py"),
        ("wget", Some("/bin/busybox"), Some("wget http://a/"), "wget"),
        // Node's main thread has a name of its own, which says nothing.
        ("MainThread", Some("/usr/bin/node"), Some("node server.js"), "server.js"),
        ("MainThread", Some("/usr/bin/node"), Some("node"), "node"),
        (
            "systemd-resolve",
            Some("/lib/systemd/systemd-resolved"),
            Some("/lib/systemd/systemd-resolved"),
            "systemd-resolved",
        ),
        // Workers that were forked from one program and named by it.
        ("worker-3", Some("/usr/bin/importer"), Some("/usr/bin/importer --all"), "worker-3"),
        ("busybox", Some("/bin/busybox"), Some("busybox wget http://a/"), "busybox wget"),
        ("busybox", Some("/bin/busybox"), Some("/bin/busybox sh /opt/report.sh"), "report.sh"),
        ("busybox", Some("/bin/busybox"), Some("busybox --list"), "busybox"),
        ("sh", Some("/bin/busybox"), Some("/bin/sh /opt/report.sh"), "report.sh"),
    ] {
        assert_eq!(of(comm, exe, cmdline).name, expected, "{comm:?} {exe:?} {cmdline:?}");
    }
}

#[test]
fn title_of_a_daemon_names_the_daemon() {
    check(&[
        ("nginx: worker process", "nginx"),
        ("nginx: master process /usr/sbin/nginx -g daemon off;", "nginx"),
        ("postgres: checkpointer", "postgres"),
        ("postgres: shop shop 10.0.0.1(40000) idle", "postgres"),
        ("sshd: root@pts/0", "sshd"),
        ("php-fpm: pool www", "php-fpm: pool www"),
        ("php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", "php-fpm"),
        ("/usr/sbin/php-fpm8.2 --nodaemonize", "php-fpm8.2"),
        ("redis-server *:6379", "redis-server"),
        ("/usr/bin/redis-server 127.0.0.1:6379", "redis-server"),
        ("(sd-pam)", "(sd-pam)"),
        ("python3: worker 1", "python3"),
        (":", ":"),
        ("/", "/"),
    ]);
}

#[test]
fn python_is_named_by_its_script_or_module() {
    check(&[
        ("python3", "python3"),
        ("python3 -", "python3"),
        ("python3 client.py --host a", "client.py"),
        ("/usr/bin/python3.11 -u /opt/tools/client.py", "client.py"),
        ("pypy3 -O client.py", "client.py"),
        ("python2 -W ignore -X dev -I client.py", "client.py"),
        ("python -Wignore -uOX dev client.py", "client.py"),
        ("python3 --check-hash-based-pycs always client.py", "client.py"),
        ("python3 -- client.py", "client.py"),
        ("/usr/bin/python3 -m http.server 8000", "python3 -m http.server"),
        ("python3 -um http.server", "python3 -m http.server"),
        ("python3 -m", "python3"),
        ("python3 -m gunicorn -w 4 app:api", "gunicorn app:api"),
        ("python3 -m time", "python3 -m time"),
        ("/usr/bin/python3 -c import os; os.fork()", "python3 -c"),
        ("python3 -Sc pass", "python3 -c"),
        ("python3 /usr/bin/ansible-playbook site.yml", "ansible-playbook"),
        ("python3 /srv/tool/", "tool"),
    ]);
}

#[test]
fn script_of_a_common_name_is_shown_with_its_folder() {
    check(&[
        ("python3 /srv/billing/app.py", "billing/app.py"),
        ("python3 billing/manage.py runserver", "billing/manage.py"),
        ("python3 manage.py runserver", "manage.py"),
        ("python3 ./app.py", "app.py"),
        ("python3 /app.py", "app.py"),
        ("python3 //app.py", "app.py"),
        ("python3 /srv/billing/src/main.py", "main.py"),
        ("node /usr/src/app/server.js", "server.js"),
        ("node /srv/shop//index.js", "shop/index.js"),
        ("php /srv/shop/index.php", "shop/index.php"),
        ("python3 /srv/billing/client.py", "client.py"),
        ("java -jar /srv/billing/app.jar", "billing/app.jar"),
    ]);
}

#[test]
fn python_server_is_named_with_its_application() {
    check(&[
        ("gunicorn app:api", "gunicorn app:api"),
        ("/srv/venv/bin/python3 /srv/venv/bin/gunicorn -b 0.0.0.0:8000 --workers 4 app:api", "gunicorn app:api"),
        ("gunicorn -b localhost:8000 -k uvicorn.workers.UvicornWorker -c conf.py shop.wsgi", "gunicorn shop.wsgi"),
        ("gunicorn --access-logformat %(h)s %(l)s shop.wsgi:application", "gunicorn shop.wsgi:application"),
        ("gunicorn -c conf.py", "gunicorn"),
        ("gunicorn: master [api]", "gunicorn api"),
        ("gunicorn: worker [app:api]", "gunicorn app:api"),
        ("gunicorn: worker", "gunicorn"),
        ("python3 /usr/bin/uvicorn --host 0.0.0.0 --port 80 --reload app:api", "uvicorn app:api"),
        ("hypercorn -b :80 app:api", "hypercorn app:api"),
        ("daphne -p 80 shop.asgi:application", "daphne shop.asgi:application"),
        ("uvicorn app:api --host 0.0.0.0", "uvicorn app:api"),
        ("celery -A proj worker -l info", "celery proj"),
        ("python3 /usr/bin/celery worker --app=proj.tasks", "celery proj.tasks"),
        ("[celeryd: celery@host:MainProcess] -active- (-A proj worker)", "celery proj"),
        ("celery worker", "celery"),
        ("celery -A", "celery"),
        ("python3 /usr/bin/flask --app shop run", "flask shop"),
        ("flask run", "flask"),
        ("uwsgi --ini /etc/uwsgi/shop.ini", "uwsgi shop.ini"),
        ("uwsgi --ini=/etc/uwsgi/shop.ini --module app:api", "uwsgi app:api"),
        ("uwsgi --http :80 -w app:api", "uwsgi app:api"),
        ("uwsgi --wsgi-file /srv/billing/app.py", "uwsgi billing/app.py"),
        ("/usr/bin/uwsgi /etc/uwsgi/shop.ini", "uwsgi shop.ini"),
        ("uWSGI worker 1", "uwsgi"),
        ("uwsgi --ini", "uwsgi"),
        ("uwsgi --ini=", "uwsgi"),
        ("flask --app= run", "flask"),
    ]);
}

#[test]
fn java_is_named_by_its_jar_or_class() {
    check(&[
        ("java", "java"),
        ("java -jar /opt/billing.jar --x", "billing.jar"),
        ("/usr/lib/jvm/bin/java -Xmx1g -XX:+UseG1GC -Dx=y -agentlib:jdwp=a -jar billing.jar", "billing.jar"),
        ("java -cp a:b com.acme.Main start", "com.acme.Main"),
        ("java --class-path=a:b @args --add-opens java.base/java.lang=ALL-UNNAMED com.acme.Main", "com.acme.Main"),
        ("java -classpath a com.acme.warehouse.inventory.replication.Main", "Main"),
        ("java -p mods --add-modules x -m shop/com.acme.Main", "com.acme.Main"),
        ("java --module shop", "shop"),
        ("java --source 21 /srv/Tool.java", "Tool.java"),
        ("java -cp /app:/app/shop.jar org.springframework.boot.loader.JarLauncher", "shop.jar"),
        ("java org.springframework.boot.loader.launch.JarLauncher", "JarLauncher"),
        ("java -cp x.jar org.codehaus.plexus.classworlds.launcher.Launcher verify", "maven"),
        (
            "java -cp a a.......................................................",
            "a.......................................................",
        ),
        ("java -jar", "java"),
    ]);
}

#[test]
fn node_is_named_by_its_script_or_task() {
    check(&[
        ("node", "node"),
        ("node --watch server.js", "server.js"),
        ("node server.js", "server.js"),
        ("/usr/bin/nodejs --max-old-space-size=4096 -r dotenv/config --import x.mjs server.js", "server.js"),
        ("node --require x --loader y --inspect server.js", "server.js"),
        ("node -e 1", "node -e"),
        ("node --eval 1", "node -e"),
        ("node --run start", "node --run start"),
        ("bun server.ts", "server.ts"),
        ("bun run --watch server.ts", "server.ts"),
        ("bun run dev", "bun run dev"),
        ("deno run -A /srv/shop/server.ts", "shop/server.ts"),
        ("deno task start", "deno task start"),
        ("deno eval 1", "deno eval"),
        ("dotnet /app/Shop.dll", "Shop.dll"),
        ("npm run start", "npm run start"),
        ("npm --prefix /srv/shop run start --silent", "npm run start"),
        ("npm exec x", "npm exec x"),
        ("npm install x y", "npm install"),
        ("npm", "npm"),
        ("npx --yes x", "npx x"),
        ("yarn start", "yarn start"),
        ("pnpm --filter shop dev", "pnpm dev"),
        ("node /usr/bin/npm run start", "npm run start"),
        ("node /usr/lib/node_modules/npm/bin/npm-cli.js run start", "npm run start"),
        ("node /usr/lib/node_modules/npm/bin/npm-cli.js", "npm"),
        ("node /srv/shop/node_modules/.bin/next start", "next start"),
        ("node_modules/.bin/next start -p 80", "next start"),
        ("node_modules/.bin/next", "next"),
    ]);
}

#[test]
fn php_is_named_by_its_script_and_command() {
    check(&[
        ("php script.php", "script.php"),
        ("php8.2 -d memory_limit=1G -f /srv/script.php", "script.php"),
        ("php artisan queue:work --tries=3", "php artisan queue:work"),
        ("/usr/bin/php8.2 /srv/shop/artisan", "artisan"),
        ("php bin/console messenger:consume async", "php console messenger:consume"),
        ("console x", "console"),
        ("php -S 0:8000", "php -S"),
        ("php -r 1;", "php -r"),
        ("php", "php"),
    ]);
}

#[test]
fn ruby_is_named_by_its_script_or_server() {
    check(&[
        ("ruby report.rb", "report.rb"),
        ("ruby3.1 -W0 -I lib -W:no-deprecated report.rb", "report.rb"),
        ("ruby -e 1", "ruby -e"),
        ("ruby bin/rails server -b 0.0.0.0", "rails server"),
        ("rake jobs:work", "rake jobs:work"),
        ("puma 5.6.4 (tcp://0.0.0.0:3000) [shop]", "puma shop"),
        ("puma: cluster worker 0: 17 [shop]", "puma shop"),
        ("puma -C config/puma.rb", "puma"),
        ("sidekiq 6.5.8 shop [0 of 5 busy]", "sidekiq shop"),
        ("sidekiq 6.5.8 [0 of 5 busy]", "sidekiq"),
        ("sidekiq -q default", "sidekiq"),
        ("bundle exec --keep-file-descriptors rails server", "rails server"),
        ("ruby /usr/bin/bundle exec ruby report.rb", "report.rb"),
        ("bundle install --jobs 4", "bundle install"),
        ("bundle exec", "bundle"),
        ("unicorn worker[0] -c config/unicorn.rb", "unicorn"),
    ]);
}

#[test]
fn script_of_another_interpreter_names_it() {
    check(&[
        ("perl /opt/report.pl x", "report.pl"),
        ("perl -w -Ilib -MStrict=e report.pl", "report.pl"),
        ("perl -lane print", "perl -e"),
        ("perl -E 1", "perl -e"),
        ("lua5.4 -l x report.lua", "report.lua"),
        ("Rscript --vanilla report.R", "report.R"),
        ("/usr/lib/R/bin/exec/R --no-echo --file=report.R", "report.R"),
        ("tclsh8.6 -encoding utf-8 report.tcl", "report.tcl"),
        ("expect -f report.exp", "report.exp"),
        ("groovy -cp x report.groovy", "report.groovy"),
    ]);
}

#[test]
fn shell_is_named_by_its_script_or_command() {
    check(&[
        ("sh script", "script"),
        ("bash -x /opt/report.sh arg", "report.sh"),
        ("bash +x -o pipefail --rcfile x /opt/report.sh", "report.sh"),
        ("bash", "bash"),
        ("-bash", "bash"),
        ("-", "-"),
        ("fish", "fish"),
        ("/bin/zsh -l", "zsh"),
        ("sh -s", "sh"),
        ("bash /dev/fd/63", "bash"),
        ("sudo bash /proc/self/fd/11", "bash"),
        ("sh -c", "sh -c"),
        ("sh -c curl x | y", "sh -c curl"),
        ("bash -euxc /usr/bin/curl x", "bash -c curl"),
        ("sh -c (curl x)", "sh -c curl"),
        ("sh -c exec java -jar billing.jar", "billing.jar"),
        ("/bin/sh -c A=1 exec python3", "python3"),
        ("sh -c -- python3 client.py; echo done", "client.py"),
        ("sh -c cd /srv/shop && npm run start > log", "npm run start"),
        ("sh -c set -e; [ -f x ] && exec curl x", "sh -c curl"),
        ("sh -c python3 2>&1", "python3"),
        ("sh -c sleep 5", "sh -c sleep"),
        ("sh -c node_modules/.bin/next start", "next start"),
        ("sh -c \"$@\"", "sh -c $@"),
    ]);
}

#[test]
fn wrapper_is_looked_through() {
    check(&[
        ("sudo -u shop -E A=1 /usr/bin/curl x", "curl"),
        ("sudo --user shop -- python3 client.py", "client.py"),
        ("sudo -i", "sudo"),
        ("doas -u shop curl", "curl"),
        ("env -i A=1 -u B curl", "curl"),
        ("env - A=1 curl", "curl"),
        ("timeout -s KILL -k 5 --preserve-status 10 curl x", "curl"),
        ("timeout 10", "timeout"),
        ("nohup setsid -f nice -n 5 ionice -c 2 -n 7 stdbuf -oL time -p curl", "curl"),
        ("nice -10 curl", "curl"),
        ("ionice -c3 -p 17", "ionice"),
        ("xargs -0 -n 1 -P4 -I {} curl {}", "curl"),
        ("xargs", "xargs"),
        ("taskset 0x3 curl", "curl"),
        ("taskset -c 0-3 java -jar billing.jar", "billing.jar"),
        ("taskset -cp 0-3 17", "taskset"),
        ("chrt -f 50 curl", "curl"),
        ("chrt -p 17", "chrt"),
        ("numactl -N 0 --membind=0 curl", "curl"),
        ("docker-init -- catatonit -- curl", "curl"),
        ("gosu redis redis-server --port 1", "redis-server"),
        ("su-exec www nginx", "nginx"),
        ("/sbin/tini -g -- node server.js", "server.js"),
        ("dumb-init --rewrite 15:3 -- curl", "curl"),
        ("flock -n /run/lock curl x", "curl"),
        ("flock -w 5 /run/lock -c exec python3 client.py", "client.py"),
        ("flock /run/lock -c curl x", "sh -c curl"),
        ("flock -u 9", "flock"),
        ("strace curl", "strace"),
        ("chroot /srv curl", "chroot"),
    ]);
}

#[test]
fn name_of_any_length_is_cut_at_a_character() {
    let long = "ж".repeat(100);
    assert_eq!(of("", None, Some(&long)).name, "ж".repeat(MAX_NAME));
    assert_eq!(of("x", None, Some(&format!("python3 -m {long}"))).name.chars().count(), MAX_NAME);
    assert_eq!(of(&long, None, None).name.chars().count(), MAX_NAME);
}

#[test]
fn nesting_without_end_is_followed_to_its_limit() {
    for word in ["sudo ", "sh -c ", "bundle exec ", "busybox ", "env x=1 ", "python3 ", "flock x -c "] {
        let line = word.repeat(20_000);
        let name = of("x", None, Some(&line)).name;
        assert!(!name.is_empty(), "{word:?}");
    }
    assert_eq!(of("x", None, Some("sudo sudo sudo sudo sudo sudo python3 client.py")).name, "client.py");
}

#[test]
fn odd_input_gives_a_name() {
    let dashes = "-".repeat(4096);
    let odd = ["- - -", "-- --", "\u{1b}[31m \n", "é -ñ ü", "python3 -ñ", "sh -c ;", ": :", "[: x", "java @", "="];
    for line in odd.into_iter().chain([dashes.as_str()]) {
        for start in ["", "python3 ", "java ", "sh -c ", "sudo ", "gunicorn ", "uwsgi ", "npm ", "flock x "] {
            let name = of("x", None, Some(&format!("{start}{line}"))).name;
            assert!(!name.is_empty() && name.chars().count() <= MAX_NAME, "{start:?} {line:?}");
        }
    }
}

/// Words that the rules look for, between others.
fn line() -> impl Strategy<Value = String> {
    let known = "python3|java|node|php|ruby|perl|sh|sudo|env|xargs|timeout|flock|busybox|npm|run|bun|exec|bundle|cd\
                 |-c|-m|-e|-jar|-cp|-A|--ini|--|-|&&|;|>|A=1|/|a/b\\.py|\\[a\\]|php-fpm:|pool\
                 |gunicorn|gunicorn:|celery|uwsgi|puma|sidekiq";
    let word = prop_oneof![3 => known, 1 => "\\PC{0,8}", 1 => any::<String>()];
    prop::collection::vec(word, 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn name_of_any_process_is_short_and_not_empty(
        comm in "\\PC{1,15}",
        exe in prop::option::of(any::<String>()),
        cmdline in prop::option::of(line()),
    ) {
        let name = of(&comm, exe.as_deref(), cmdline.as_deref()).name;
        prop_assert!(!name.is_empty() && name.chars().count() <= MAX_NAME);
    }
}
