BEGIN TRANSACTION;
CREATE TABLE actors (
	actor_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	kind VARCHAR(400) NOT NULL, 
	role VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	disabled BOOLEAN NOT NULL, 
	PRIMARY KEY (actor_id)
);
INSERT INTO "actors" VALUES('owner','Ada','person','admin',1795281494757876,0);
INSERT INTO "actors" VALUES('ben','Ben','person','approver',1795281494763026,0);
CREATE TABLE alarms (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	alarm_id VARCHAR(200) NOT NULL, 
	endpoint VARCHAR(400) NOT NULL, 
	kind VARCHAR(400) NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	text TEXT NOT NULL, 
	raised BIGINT NOT NULL, 
	closed BIGINT, 
	facts TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, alarm_id)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE aliases (
	project VARCHAR(200) NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	alias VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, model, alias), 
	FOREIGN KEY(project, model, number) REFERENCES model_versions (project, model, number)
);
CREATE TABLE applied (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	digest VARCHAR(400) NOT NULL, 
	definitions TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment)
);
CREATE TABLE approvals (
	project VARCHAR(200) NOT NULL, 
	approval_id VARCHAR(200) NOT NULL, 
	environment VARCHAR(400) NOT NULL, 
	subject VARCHAR(400) NOT NULL, 
	question TEXT NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	asked_by VARCHAR(400) NOT NULL, 
	asked_time BIGINT NOT NULL, 
	decided_by VARCHAR(400), 
	decided_time BIGINT, 
	comment TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, approval_id)
);
CREATE TABLE artifacts (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	path VARCHAR(1000) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	size BIGINT NOT NULL, 
	media_type VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, run_id, path)
);
CREATE TABLE cursors (
	project VARCHAR(200) NOT NULL, 
	reader VARCHAR(200) NOT NULL, 
	seq BIGINT NOT NULL, 
	PRIMARY KEY (project, reader)
);
CREATE TABLE dataset_versions (
	project VARCHAR(200) NOT NULL, 
	dataset VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	delta_version BIGINT NOT NULL, 
	rows BIGINT NOT NULL, 
	added_rows BIGINT NOT NULL, 
	columns TEXT NOT NULL, 
	source VARCHAR(400) NOT NULL, 
	profile VARCHAR(64), 
	description TEXT NOT NULL, 
	tags TEXT NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	known_until BIGINT, 
	PRIMARY KEY (project, dataset, number), 
	CONSTRAINT dataset_versions_digest UNIQUE (project, dataset, digest)
);
CREATE TABLE edges (
	project VARCHAR(200) NOT NULL, 
	child VARCHAR(200) NOT NULL, 
	parent VARCHAR(200) NOT NULL, 
	role VARCHAR(200) NOT NULL, 
	run_id VARCHAR(400), 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, child, parent, role)
);
INSERT INTO "edges" VALUES('flights','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','trained_on','run_1',1795281494779869);
CREATE TABLE events (
	project VARCHAR(200) NOT NULL, 
	event_id VARCHAR(200) NOT NULL, 
	environment VARCHAR(400) NOT NULL, 
	type VARCHAR(400) NOT NULL, 
	subject VARCHAR(400) NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	payload_digest VARCHAR(400) NOT NULL, 
	salt VARCHAR(32), 
	payload TEXT, 
	seq BIGINT, 
	hash VARCHAR(64), 
	PRIMARY KEY (project, event_id), 
	CONSTRAINT events_seq UNIQUE (seq)
);
INSERT INTO "events" VALUES('','evt_01m7zhv8qbgmdyna648ywa1z7k','','treadle.actor.created','actor/ben','system',1364731200000000,1795281494763207,'516e8d95a0ab24250842e6167a1b4d8ffc8a66171033f4c83b2906aa56abf2e5','a85e17c375a1bce3121df1ed40fee8b0','{"actor_id":"ben","kind":"person","name":"Ben","role":"approver"}',1,'59096b1b71e3db4ad6ada78615c400eb1657450ed1321cfd88e6c2fe12982226');
INSERT INTO "events" VALUES('flights','evt_01m7zhv8qeyjmykqx5t41qm755','dev','treadle.run.created','run/run_1','system',1364731200000000,1795281494766194,'1bd14502b7281b30f4f003e6286839e3bdc58d508017a02ff78780356f95bc44','4e411ac6b3a5c4bf11a0c8d402406dcd','{"code_digest":"","definition_digest":"","environment":"dev","environment_digest":"","experiment":"default","git_revision":null,"params":{"seed":7},"parent_run":null,"pipeline":"delay","project":"flights","project_digest":"","reason":{"event_id":null,"facts":{},"kind":"demand","text":"asked for","trigger":null},"run_id":"run_1","state":"queued"}',2,'f0d9213134333d55af28bfad85c35c54561d2c5b885252ccce24e70a39b7f586');
INSERT INTO "events" VALUES('flights','evt_01m7zhv8qh852n85ewgywvht1p','dev','treadle.run.moved','run/run_1','system',1364731200000000,1795281494769453,'160272a5a488965ee767630644de9da3beda02edd70a46a9d4611981b78b7eae','432a68ea7ce25d1076839ed2152386a5','{"error":null,"project":"flights","run_id":"run_1","state":"running"}',3,'24bb67cf47b78e5a71f16a0a4183b54aecd175a3500739fa9e6a5101167603d2');
INSERT INTO "events" VALUES('flights','evt_own','','acme.x','x','system',1795281494780663,1795281494781495,'fcc09679722a25c6c7347f6a67abf00558d078907af788c18b13d398040cb0c4','c9c94795f173531333f11b313de03332','{"n":1}',NULL,NULL);
CREATE TABLE firings (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	event_time BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, name, run_id)
);
CREATE TABLE grants (
	actor_id VARCHAR(200) NOT NULL, 
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	role VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (actor_id, project, environment)
);
CREATE TABLE heads (
	seq BIGINT NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	sealed_time BIGINT NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "heads" VALUES(3,'24bb67cf47b78e5a71f16a0a4183b54aecd175a3500739fa9e6a5101167603d2',1795281494777463);
CREATE TABLE home (
	name VARCHAR(200) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "home" VALUES('home_id','home_01m7zhv8pn2bg0gcz424627kn9');
INSERT INTO "home" VALUES('owner','owner');
CREATE TABLE idempotency (
	scope VARCHAR(200) NOT NULL, 
	actor_id VARCHAR(200) NOT NULL, 
	idempotency_key VARCHAR(200) NOT NULL, 
	operation VARCHAR(400) NOT NULL, 
	request_digest VARCHAR(400) NOT NULL, 
	response TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (scope, actor_id, idempotency_key)
);
CREATE TABLE jobs (
	project VARCHAR(200) NOT NULL, 
	job_id VARCHAR(200) NOT NULL, 
	environment VARCHAR(400) NOT NULL, 
	kind VARCHAR(400) NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	payload TEXT NOT NULL, 
	due BIGINT NOT NULL, 
	priority INTEGER NOT NULL, 
	owner VARCHAR(400), 
	beat BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	max_attempts INTEGER NOT NULL, 
	error TEXT, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, job_id)
);
CREATE TABLE latest_metrics (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	step BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	value DOUBLE, 
	PRIMARY KEY (project, run_id, name)
)
 WITHOUT ROWID

;
INSERT INTO "latest_metrics" VALUES('flights','run_1','brier','default',2,1364731200000000,0.15);
CREATE TABLE log_lines (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	step VARCHAR(400) NOT NULL, 
	level VARCHAR(400) NOT NULL, 
	text TEXT NOT NULL, 
	time BIGINT NOT NULL, 
	PRIMARY KEY (project, run_id, number)
);
CREATE TABLE metrics (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	step BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	value DOUBLE, 
	PRIMARY KEY (project, run_id, name, step, time)
)
 WITHOUT ROWID

;
INSERT INTO "metrics" VALUES('flights','run_1','brier',0,1364731200000000,0.15);
INSERT INTO "metrics" VALUES('flights','run_1','brier',1,1364731200000000,0.15);
INSERT INTO "metrics" VALUES('flights','run_1','brier',2,1364731200000000,0.15);
CREATE TABLE model_versions (
	project VARCHAR(200) NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	bundle_digest VARCHAR(64) NOT NULL, 
	run_id VARCHAR(400) NOT NULL, 
	metrics TEXT NOT NULL, 
	gates TEXT NOT NULL, 
	description TEXT NOT NULL, 
	tags TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, model, number), 
	CONSTRAINT model_versions_bundle UNIQUE (project, model, bundle_digest, run_id)
);
CREATE TABLE params (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (project, run_id, name)
)
 WITHOUT ROWID

;
INSERT INTO "params" VALUES('flights','run_1','seed','default','7');
CREATE TABLE releases (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	release_id VARCHAR(200) NOT NULL, 
	endpoint VARCHAR(400) NOT NULL, 
	model VARCHAR(400) NOT NULL, 
	from_version BIGINT, 
	to_version BIGINT NOT NULL, 
	strategy TEXT, 
	state VARCHAR(400) NOT NULL, 
	generation BIGINT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	started BIGINT NOT NULL, 
	ended BIGINT, 
	verdict TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	facts TEXT NOT NULL, 
	approval_id VARCHAR(400), 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, release_id)
);
CREATE TABLE runs (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	environment VARCHAR(400) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	pipeline VARCHAR(400) NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	params TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	definition_digest VARCHAR(400) NOT NULL, 
	project_digest VARCHAR(400) NOT NULL, 
	code_digest VARCHAR(400) NOT NULL, 
	environment_digest VARCHAR(400) NOT NULL, 
	git_revision VARCHAR(400), 
	parent_run VARCHAR(400), 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	started BIGINT, 
	ended BIGINT, 
	error TEXT, 
	PRIMARY KEY (project, run_id)
);
INSERT INTO "runs" VALUES('flights','run_1','dev','default','delay','running','{"seed":7}','{"kind":"demand","text":"asked for","trigger":null,"event_id":null,"facts":{}}','system','','','','',NULL,NULL,1364731200000000,1795281494765009,1364731200000000,NULL,NULL);
CREATE TABLE snapshots (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	generation BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, generation)
);
CREATE TABLE step_cache (
	project VARCHAR(200) NOT NULL, 
	cache_key VARCHAR(200) NOT NULL, 
	step VARCHAR(400) NOT NULL, 
	components TEXT NOT NULL, 
	output VARCHAR(64) NOT NULL, 
	content BLOB, 
	codec VARCHAR(400) NOT NULL, 
	run_id VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, cache_key)
);
CREATE TABLE steps (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	path VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	cache_key VARCHAR(400) NOT NULL, 
	components TEXT NOT NULL, 
	why TEXT NOT NULL, 
	output VARCHAR(64), 
	content BLOB, 
	codec VARCHAR(400), 
	attempt INTEGER NOT NULL, 
	started BIGINT, 
	ended BIGINT, 
	worker VARCHAR(400), 
	error TEXT, 
	PRIMARY KEY (project, run_id, path)
);
CREATE TABLE tags (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (project, run_id, name)
)
 WITHOUT ROWID

;
INSERT INTO "tags" VALUES('flights','run_1','owner','default','ada');
CREATE TABLE tokens (
	token_id VARCHAR(200) NOT NULL, 
	actor_id VARCHAR(400) NOT NULL, 
	hash TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	revoked_time BIGINT, 
	PRIMARY KEY (token_id)
);
CREATE TABLE triggers (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	cursor BIGINT NOT NULL, 
	last_fired BIGINT, 
	next_cron BIGINT, 
	facts TEXT NOT NULL, 
	PRIMARY KEY (project, environment, name)
);
CREATE TABLE versions (
	project VARCHAR(200) NOT NULL, 
	digest VARCHAR(200) NOT NULL, 
	kind VARCHAR(400) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	number BIGINT, 
	facts TEXT NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, digest)
);
INSERT INTO "versions" VALUES('flights','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','dataset','dataset',1,'{}',1364731200000000,1795281494779366);
INSERT INTO "versions" VALUES('flights','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','model','model',1,'{}',1364731200000000,1795281494779824);
CREATE TABLE windows (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	endpoint VARCHAR(200) NOT NULL, 
	start BIGINT NOT NULL, 
	"end" BIGINT NOT NULL, 
	predictions BIGINT NOT NULL, 
	rejected BIGINT NOT NULL, 
	outcomes BIGINT NOT NULL, 
	champion BIGINT, 
	metrics TEXT NOT NULL, 
	drift TEXT NOT NULL, 
	facts TEXT NOT NULL, 
	profile BLOB, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, endpoint, start)
);
CREATE INDEX tokens_actor ON tokens (actor_id);
CREATE INDEX idempotency_age ON idempotency (recorded_time);
CREATE INDEX events_unsealed ON events (seq, recorded_time, event_id);
CREATE INDEX events_type_seq ON events (project, type, seq);
CREATE INDEX events_subject_seq ON events (project, subject, seq);
CREATE INDEX events_project_seq ON events (project, seq);
CREATE INDEX versions_kind_name ON versions (project, kind, name, number);
CREATE INDEX edges_parent ON edges (project, parent);
CREATE INDEX runs_state ON runs (project, state, recorded_time);
CREATE INDEX runs_pipeline ON runs (project, pipeline, recorded_time);
CREATE INDEX runs_experiment ON runs (project, experiment, recorded_time);
CREATE INDEX runs_newest ON runs (project, recorded_time, run_id);
CREATE INDEX params_value ON params (project, name, value);
CREATE INDEX tags_value ON tags (project, name, value);
CREATE INDEX latest_metrics_value ON latest_metrics (project, name, value);
CREATE INDEX latest_metrics_experiment ON latest_metrics (project, experiment, name, value);
CREATE INDEX artifacts_digest ON artifacts (digest);
CREATE INDEX jobs_ready ON jobs (state, due, priority);
CREATE INDEX steps_output ON steps (output);
CREATE INDEX step_cache_step ON step_cache (project, step, recorded_time);
CREATE INDEX firings_time ON firings (project, environment, name, event_time);
CREATE INDEX model_versions_run ON model_versions (project, run_id);
CREATE INDEX approvals_subject ON approvals (project, environment, subject);
CREATE INDEX approvals_state ON approvals (project, state, asked_time);
CREATE INDEX releases_state ON releases (state);
CREATE INDEX releases_endpoint ON releases (project, environment, endpoint, started);
CREATE INDEX alarms_endpoint ON alarms (project, environment, endpoint, raised);
COMMIT;
